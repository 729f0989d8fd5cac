"""Any function from texts to their translations as a model: another framework, a service."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import similarity
from pytest_robust.models.pairs import CLASSES, PROPORTIONATE, VALUES, Holds, Reader
from pytest_robust.models.text_function import TextFunction


class TranslatorFunction(Reader, TextFunction):
    """A function from a list of texts to their translations, seen as ``Translator`` is: a black box, which only edits can
    attack. It has to give the same translation each time.
    """

    read_as = "source"

    def __init__(
        self, function: Callable[[list[Any]], object], *, holds: str = "consistency>=0.7", name: str | None = None
    ) -> None:
        """
        Args:
            function: from a list of texts to a list of as many. holds: ``"chrf>=0.4"``, ``"consistency>=0.7"`` or
                ``"proportionate"``, see ``Translator``; a likelihood nothing is known of. name: in reports.

        Raises:
            ModelError: not a function, or no such condition, or sacrebleu is not installed.
        """
        self.question, self._holds = holds, Holds.parse(holds, (PROPORTIONATE,))
        if not self._holds.by_chrf:
            raise ModelError(
                f"holds={holds!r}: a function has no likelihood; use 'chrf>=0.4', 'consistency>=0.7' or 'proportionate'"
            )
        similarity.needed()
        super().__init__(function, CLASSES, name=name)
        self._wanted: list[str] = []
        self._before: list[float] = []

    def encode(self, examples: Examples) -> Examples:
        encoded = super().encode(examples)
        if examples.references is None:
            raise PreflightError("inputs: a translator reads its own data; call read() on it first")
        said = [json.loads(reference) for reference in examples.references]
        with self.isolated():
            # Each alone, as the translations of edited sources are verified.
            self._wanted = [one["reference"] or self.translate([one[self.read_as]])[0] for one in said]
            if self._holds.form == PROPORTIONATE:
                own = [self.translate([text])[0] for text in self._texts]
                self._before = list(map(similarity.chrf, own, self._wanted))
        return encoded

    def judged(self, texts: Sequence[Text], rows: Sequence[int]) -> Tensor:
        """(B, 2) logits (m, 0), m how far the value of each translation lies above the limit."""
        found = zip(texts, self.translate(texts), rows, strict=True)
        margin = [self._value(*one) - self._holds.limit for one in found]
        return torch.tensor([[m, 0.0] for m in margin], dtype=torch.float64)

    def _value(self, text: Text, written: str, row: int) -> float:
        """What has to reach the limit, of a text in place of the source ``row``, and of what is written for it."""
        if self._holds.form != PROPORTIONATE:
            return VALUES[self._holds.form](written, self._wanted[row])
        alike = similarity.chrf(str(text), str(self._texts[row]))
        return similarity.proportion(alike, self._before[row], similarity.chrf(written, self._wanted[row]))

    def translate(self, texts: Sequence[Text]) -> list[str]:
        """The function's translations of texts.

        Raises:
            ModelError: it raised, or returned no text for each.
        """
        found = self.answers(texts)
        if (
            isinstance(found, str)
            or not isinstance(found, Sequence)
            or len(found) != len(texts)
            or not all(isinstance(one, str) for one in found)
        ):
            raise ModelError(f"{self.name} returned {found!r:.80} for {len(texts)} texts; return a list of as many texts")
        return list(found)
