"""Texts with what is to be written for them: how they are read, and what has to hold of what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pytest_robust.budget import exact
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import similarity

CLASSES = ("holds", "fluctuates")
VALUES = {"chrf": similarity.chrf, "consistency": similarity.consistency}
"""By form: of what is written and what it is held against, a value from 0 to 1."""
PROPORTIONATE = "proportionate"
"""The form for which the text that is read counts as well, see ``similarity.proportion``."""
_FORMS = "'chrf>=0.4', 'consistency>=0.7', 'nll<=0.5'"


@dataclass(frozen=True)
class Holds:
    """What has to hold of what is written.

    Attributes:
        form: ``"chrf"``, ``"consistency"`` or ``"nll"``, or a word of the model's own. limit: where it has one.
    """

    form: str
    limit: float = 0.0

    @property
    def by_chrf(self) -> bool:
        """Whether it takes chrF to know it."""
        return self.form in (*VALUES, PROPORTIONATE)

    @classmethod
    def parse(cls, text: str, words: Sequence[str] = ()) -> Holds:
        """Read ``chrf>=0.4``, ``consistency>=0.7``, ``nll<=0.5``, or one of the words.

        Raises:
            ModelError: none of these.
        """
        if text in words:
            return cls(text)
        match = re.fullmatch(r"(?:(chrf|consistency)>=|(nll)<=)(.+)", text.replace(" ", ""))
        try:
            limit = None if match is None else float(exact(match[3]))
        except ValueError as error:
            raise ModelError(f"holds={text!r}: {error}") from None
        if match is None or limit is None or limit < 0 or (match[1] is not None and limit > 1):
            forms = ", ".join((_FORMS, *map(repr, words)))
            raise ModelError(f"holds={text!r} cannot be read; write it like one of {forms}")
        return cls(match[1] or match[2], limit)


class Reader:
    """A model whose examples are texts, with references or without."""

    read_as: ClassVar[str]
    """What a text that it reads is called."""
    needing: ClassVar[tuple[str, ...]] = ("chrf", PROPORTIONATE)
    """Forms for which every text needs a reference."""
    ignoring: ClassVar[tuple[str, ...]] = ("consistency",)
    """Forms for which references play no part."""
    classes: tuple[str, ...] | None
    _holds: Holds

    def read(self, data: object) -> Examples:
        """Examples of ``(text, reference)``, or of texts alone.

        Raises:
            PreflightError: not such data, or an empty reference, or none where one is needed.
        """
        if isinstance(data, Examples):
            if data.references is None:
                raise PreflightError("data: these examples have no references; read them by read()")
            return data
        what = self.read_as
        if not isinstance(data, (list, tuple)) or not data:
            raise PreflightError(f"data: a {type(data).__name__}; give a list of ({what}, reference), or of {what}s")
        texts: list[Text] = []
        references = []
        for i, item in enumerate(data):
            said = self._said(item, i)
            reference = said["reference"]
            if self._holds.form in self.needing and reference is None:
                raise PreflightError(
                    f"labels: {what} {i} has no reference to compare with; give ({what}, reference), or use "
                    "holds='consistency>=0.7', which needs none"
                )
            if reference is not None and not reference.strip():
                raise PreflightError(f"labels: the reference of {what} {i} is empty; give a text, or drop it")
            if self._holds.form in self.ignoring:
                said["reference"] = None
            texts.append(said[what])
            references.append(json.dumps(said, ensure_ascii=False))
        return Examples.of(texts, torch.zeros(len(texts), dtype=torch.int64), self.classes, references)

    def _said(self, item: object, i: int) -> dict[str, Any]:
        """What the user says of example ``i``: its text, called ``read_as``, and its ``"reference"`` or None."""
        if isinstance(item, str):
            return {self.read_as: item, "reference": None}
        if isinstance(item, (tuple, list)) and len(item) == 2 and all(isinstance(text, str) for text in item):
            return {self.read_as: item[0], "reference": item[1]}
        what, found = self.read_as, type(item).__name__
        raise PreflightError(f"data: example {i} is a {found}, where ({what}, reference) or a {what} is needed")
