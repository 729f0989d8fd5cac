"""Any function of texts as a model: a pipeline of one's own, another framework, a service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pytest_robust.data import load
from pytest_robust.data.examples import Examples, Inputs, Text
from pytest_robust.errors import ModelError, PreflightError, RobustError
from pytest_robust.models.outputs import as_logits, is_out_of_memory
from pytest_robust.models.protocol import Batch
from pytest_robust.models.spans import Span
from pytest_robust.random_state import preserved_random_state

_ROW = "row"
_LEAST = 1e-12
"""Stands for a probability of zero, of which there is no logarithm."""


class TextFunction:
    """A function from a list of texts to their scores, as a ``Model``: a black box, which only edits of texts can attack.

    Attributes:
        classes: names of the classes, in the order of the scores.
    """

    space = "text"
    approximated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(
        self,
        function: Callable[[list[Any]], object],
        classes: Sequence[str] | None = None,
        *,
        probabilities: bool = False,
        name: str | None = None,
    ) -> None:
        """
        Args:
            function: from texts to (B, C) scores, a tensor or an array or nested lists; or, where it says no more, to B
                class names or class numbers.
            classes: needed where it returns names or numbers. probabilities: scores are probabilities, not logits.
            name: in reports; that of the function when left out.

        Raises:
            ModelError: not a function, or classes that are no list of names.
        """
        if not callable(function):
            raise ModelError(f"{type(self).__name__} takes a function of a list of texts, got a {type(function).__name__}")
        if isinstance(classes, str):
            raise ModelError(f"classes={classes!r} is one text; give a list of names, in the order of the scores")
        self._function, self._probabilities = function, probabilities
        self.classes = None if classes is None else tuple(map(str, classes))
        self.name = str(name or getattr(function, "__name__", type(function).__name__))
        self._texts: list[Text] = []

    def training_parts(self) -> tuple[str, ...]:
        """None: nothing is known of what is inside."""
        return ()

    def read(self, data: object) -> Examples:
        return load(data, classes=self.classes)

    def encode(self, examples: Examples) -> Examples:
        """The numbers of the texts.

        Raises:
            PreflightError: not texts.
        """
        inputs = examples.inputs
        if not isinstance(inputs, list) or isinstance(inputs[0], Tensor):
            raise PreflightError(f"inputs: {self.name} takes texts; give (text, label) pairs")
        self._texts = inputs
        return replace(examples, inputs={_ROW: torch.arange(len(inputs))})

    def batch(self, inputs: Inputs) -> Batch:
        rows = cast("dict[str, Tensor]", inputs)[_ROW]
        return Batch(torch.zeros(len(rows), 1), {_ROW: rows})

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Those of the texts as they are: there is no point between texts."""
        rows = context[_ROW].tolist()
        return self.judged([self._texts[row] for row in rows], rows)

    def attackable(self, text: Text) -> list[Span] | None:
        """The (start, end) characters that may be attacked; None: all."""
        return None

    def judged(self, texts: Sequence[Text], rows: Sequence[int]) -> Tensor:
        """(B, C) logits of texts that stand for those of the examples ``rows``, as encoded last."""
        return self.of(texts)

    def of(self, texts: Sequence[Text]) -> Tensor:
        """(B, C) float32 or float64 logits.

        Raises:
            ModelError: the function raised, or returned no row of scores per text. Out of memory is raised as it is.
        """
        logits = self._scored(self.answers(texts), len(texts))
        if not self._probabilities:
            return logits
        if not bool(((logits >= 0) & (logits <= 1 + 1e-6)).all()):
            raise ModelError(f"{self.name} was said to return probabilities, and returned values outside [0, 1]")
        return logits.clamp_min(_LEAST).log()

    def answers(self, texts: Sequence[Text]) -> object:
        """What the function returns for texts, whatever it is.

        Raises:
            ModelError: the function raised. Out of memory is raised as it is.
        """
        try:
            return self._function(list(texts))
        except RobustError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"{self.name} raised {type(error).__name__} on {len(texts)} texts, the first {texts[0]!r:.200}: {error}; "
                "run it by hand on these"
            ) from error

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        with preserved_random_state():
            yield

    def isolated(self) -> AbstractContextManager[None]:
        """Random states are as they were; what else the function changes is its own affair."""
        return self._untouched()

    def _scored(self, scores: object, n: int) -> Tensor:
        if isinstance(scores, Tensor):
            return as_logits(scores.detach().cpu(), n) if scores.is_floating_point() else self._named(scores.tolist(), n)
        if isinstance(scores, (list, tuple, np.ndarray)) and len(scores):
            if isinstance(scores[0], (str, int, np.integer)):
                return self._named(list(scores), n)
            try:
                values = torch.as_tensor(np.asarray(scores))
                return as_logits(values if values.is_floating_point() else values.double(), n)
            except (TypeError, ValueError):
                pass
        raise ModelError(
            f"{self.name} returned a {type(scores).__name__} for {n} texts; return one row of scores per text, as a tensor, "
            "an array or lists, or one class name per text"
        )

    def _named(self, answers: list[Any], n: int) -> Tensor:
        """One row per answer, 1 at its class and -1 at others: there is nothing to climb, only to hit."""
        if self.classes is None:
            raise ModelError(f"{self.name} returned class names or numbers; say which there are: classes=[...]")
        known = {name: i for i, name in enumerate(self.classes)}
        places = [known.get(answer) if isinstance(answer, str) else int(answer) for answer in answers]
        strange = next((a for a, p in zip(answers, places, strict=True) if p is None or not 0 <= p < len(known)), None)
        if strange is not None or len(answers) != n:
            what = f"the answer {strange!r}" if strange is not None else f"{len(answers)} answers for {n} texts"
            raise ModelError(f"{self.name} returned {what}; it has to give one of {', '.join(known)} for each text")
        return 2 * torch.nn.functional.one_hot(torch.tensor(places), len(known)).float() - 1
