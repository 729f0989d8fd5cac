"""A model seen otherwise: what all views of another model pass on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from pytest_robust.data.examples import Examples
from pytest_robust.models.protocol import Model

M = TypeVar("M", bound=Model)


class Seen(Generic[M]):
    """What a view of a model answers as the model does; how it makes points, and logits of them, is its own."""

    def __init__(self, model: M) -> None:
        self._model = model
        self.name, self.device, self.classes = model.name, model.device, model.classes
        self.dtype, self.notes, self.approximated = model.dtype, model.notes, model.approximated

    def training_parts(self) -> tuple[str, ...]:
        return self._model.training_parts()

    def read(self, data: object) -> Examples:
        return self._model.read(data)

    def encode(self, examples: Examples) -> Examples:
        return self._model.encode(examples)

    def isolated(self) -> AbstractContextManager[None]:
        return self._model.isolated()
