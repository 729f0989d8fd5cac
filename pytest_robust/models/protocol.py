"""theta: what the engine asks of a model, whatever framework it comes from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pytest_robust.data import load
from pytest_robust.data.examples import Examples, Inputs


@dataclass
class Batch:
    """A batch in the form the attack sees.

    Attributes:
        x: (B, ...) float tensor on the model's device: the point that the attack moves. Pixels for an image model,
            token embeddings for a text model.
        context: what else the forward pass needs, each with leading dimension B (an attention mask, say).
        free: bool, broadcastable to ``x``; False where nothing may move (padding, special tokens). None: all free.
    """

    x: Tensor
    context: dict[str, Tensor] = field(default_factory=dict)
    free: Tensor | None = None


class Model(Protocol):
    """Logits for a batch, with gradients with respect to the point.

    Attributes:
        name: how reports call the model.
        space: the space of the point, ``"input"`` or ``"embedding"``. A threat is made for one space.
        device: where ``batch`` puts tensors and ``logits`` runs.
        dtype: the type of the model's numbers, to which ``logits`` casts the point: it may be coarser than the point's.
        classes: class names where the model knows them.
        notes: what the user should know about how the inputs were encoded, in sentences.
        approximated: names of parts whose gradient is, on the user's word, one of something close to them (BPDA).
    """

    name: str
    space: str
    device: torch.device
    dtype: torch.dtype
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]
    approximated: tuple[str, ...]

    def training_parts(self) -> tuple[str, ...]:
        """The parts, as the user left them, that are in training mode and act differently in it."""
        ...

    def read(self, data: object) -> Examples:
        """The user's data as examples, by default what ``load`` makes of it.

        A model whose outputs are held against more than a class number gives its examples ``references``, and labels such
        that its logits can be judged by them.

        Raises:
            PreflightError: data of a form that this model has no use for.
        """
        return load(data, classes=self.classes)

    def encode(self, examples: Examples) -> Examples:
        """The examples with inputs turned into tensors (tokenised, say); ids and labels stay."""
        ...

    def batch(self, inputs: Inputs) -> Batch:
        """Encoded inputs of equal shape, as ``Examples.take`` gives them, put on the device as a point."""
        ...

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """(B, C) float32 or float64 logits, C >= 2. A single-logit binary model becomes two classes.

        Raises:
            ModelError: the model raised or returned something that is not one row of logits per example.
        """
        ...

    def isolated(self) -> AbstractContextManager[None]:
        """Inside, the model may be run; on leaving, also by an exception, nothing of the user's has changed."""
        ...
