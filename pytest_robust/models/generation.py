"""Models that write a text for the one they read: broken when a changed text makes them write worse, or otherwise."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models import similarity
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.pairs import CLASSES, VALUES, Holds, Reader
from pytest_robust.models.parity import AS_ARGUMENT
from pytest_robust.models.spans import Spans
from pytest_robust.models.tokens import Row

KEY = "target key"
"""The column with the key of each target, by the content of its reference; no argument of a model can be called so."""
IGNORED = -100
"""The label of what is no token of a target."""


@dataclass(frozen=True)
class Target:
    """What a text that is written is held against.

    Attributes:
        text: the reference, or without one what is written for the text as it is. ids: (T,) its tokens.
        nll: negative log-likelihood per token that the model gives it for the text as it is; None before that is known.
        whole: whether the tokens are all that greedy decoding writes for the text as it is.
        chrf: of what is written for the text as it is; None where nothing hangs on that.
    """

    text: str
    ids: Tensor
    nll: float | None = None
    whole: bool = False
    chrf: float | None = None


class Writer(Reader, EmbeddedText):
    """A model that writes texts, with its tokenizer, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    What is written is greedy, so that it is the same each time. Logits are (m, 0). For ``nll`` m and its gradient are of the
    likelihood. Else m is how far the value of the written text itself lies above the limit, and its gradient that of the
    likelihood of what it is held against: it leads a search, and nothing else rests on it.
    """

    of_examples = ("_targets",)
    words: ClassVar[tuple[str, ...]] = ()
    """Forms of ``holds`` of its own."""

    def __init__(
        self, module: Any, tokenizer: Any, *, holds: str, max_new_tokens: int, device: str, spans: Spans | None
    ) -> None:
        """
        Args:
            holds: see ``Holds``. max_new_tokens: of what is written. device, spans: as in ``adapt``.

        Raises:
            ModelError: not such a model or condition, or sacrebleu is not installed.
        """
        self._holds = Holds.parse(holds, self.words)
        if self._holds.by_chrf:
            similarity.needed()
        self.question = holds
        self._targets: dict[int, Target] = {}
        super().__init__(module, tokenizer, device=device, spans=spans)
        # A decoder with a table of positions can write no more than that has.
        self._most = max_new_tokens if self._tokens.limit is None else min(max_new_tokens, self._tokens.limit - 1)

    @abstractmethod
    def _target(self, said: Mapping[str, Any]) -> Target:
        """What an example is held against; inside ``isolated()``.

        Args:
            said: what its reference says: see ``_said``.
        """

    @abstractmethod
    def _labels(self, context: Mapping[str, Tensor]) -> Tensor:
        """(B, T) the tokens of the targets, each at the place where what is observed says how likely it is; else IGNORED."""

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        return CLASSES

    @property
    def in_one_pass(self) -> bool:
        return self._holds.form == "nll"

    def encode(self, examples: Examples) -> Examples:
        # Anew each time: the weights may have been trained on since these texts were last read.
        for reference in examples.references or ():
            self._targets.pop(_key(reference), None)
        return super().encode(examples)

    @torch.no_grad()
    def _looked_at(self, rows: Sequence[Row]) -> None:
        """The likelihood of what each text is held against, where that is what has to hold."""
        for row in rows if self._holds.form == "nll" else ():
            key = row.others[KEY][0]
            if self._targets[key].nll is None:
                nll = self._nll(self._by_ids(row), self._labels(self._columns(row)))
                self._targets[key] = replace(self._targets[key], nll=float(nll))

    def _columns(self, row: Row) -> dict[str, Tensor]:
        """The row's own columns, as a context of one."""
        return {name: torch.tensor([values], device=self.device) for name, values in row.others.items()}

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits at the embeddings ``x``; see the class."""
        margin = self._margin(x, context)
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    def _margin(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """(B,) by how much it holds, below 0 exactly where it does not."""
        targets = self._targets_of(context)
        if self._holds.form == "nll":
            nll = self._likelihood(x, context)
            return self._holds.limit - (nll - nll.new_tensor([target.nll or 0.0 for target in targets]))
        values = self._values(self._written(x, context), context)
        margin = x.new_tensor(values, dtype=torch.float64) - self._holds.limit
        if not x.requires_grad:
            return margin
        nll = self._likelihood(x, context)
        return margin - (nll - nll.detach())

    def _targets_of(self, context: Mapping[str, Tensor]) -> list[Target]:
        return [self._targets[key] for key in context[KEY][:, 0].tolist()]

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        if examples.references is None:
            raise PreflightError(f"inputs: {self.name} reads its own data; call read() on it first")
        reference = examples.references[i]
        key = _key(reference)
        if key not in self._targets:
            with self.isolated():
                self._targets[key] = self._target(json.loads(reference))
        return replace(row, others={**row.others, KEY: [key] * len(row.ids)})

    def _observed(self, output: object, batch_size: int) -> Tensor:
        logits = getattr(output, "logits", None)
        return self._of_tokens(logits, batch_size, "logits (batch, tokens, vocabulary) are", "load it with a language head")

    def _likelihood(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """(B,) negative log-likelihood per token of the targets, at the embeddings ``x``."""
        return self._nll(self._seen(self._entry_of(context), x, context), self._labels(context))

    @staticmethod
    def _nll(logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits[:, -labels.shape[1] :]  # those of a prompt, where there are any, come before
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(labels)
        return each.sum(1) / (labels != IGNORED).sum(1)

    def _read_lengths(self, context: Mapping[str, Tensor]) -> list[int]:
        """How many tokens of each row are read, not written."""
        lengths: list[int] = context["attention_mask"].sum(1).tolist()
        return lengths

    @torch.no_grad()
    def _written(self, x: Tensor, context: dict[str, Tensor]) -> list[str]:
        """For texts by their token ids, for points between texts by their embeddings."""
        ids = context["input_ids"]
        texts = (self.embedded(ids).to(x.dtype) == x).flatten(1).all(1).tolist()
        if self._entry_of(context) is not AS_ARGUMENT and not all(texts):
            raise ModelError(
                f"{self.name} does not write from embeddings as from texts; use holds='nll<=0.5' for embedding balls, or "
                "edits of the text"
            )
        # Those of one length together, so that none is padded.
        alike: dict[tuple[bool, int], list[int]] = defaultdict(list)
        for i, kind in enumerate(zip(texts, self._read_lengths(context), strict=True)):
            alike[kind].append(i)
        found = [""] * len(texts)
        for (is_text, length), which in alike.items():
            given = {"input_ids": ids[which, :length]} if is_text else {"inputs_embeds": x[which, :length].to(self.dtype)}
            for i, text in zip(which, self._tokens.texts(self._generated(given, self._most)), strict=True):
                found[i] = text
        return found

    def _generated(self, given: Mapping[str, Tensor], most: int) -> Tensor:
        """(B, T) tokens that are written for texts of one length, ``input_ids`` (B, L) or ``inputs_embeds`` (B, L, D)."""
        (texts,) = given.values()
        mask = torch.ones(texts.shape[:2], dtype=torch.int64, device=texts.device)
        # Greedy, whatever the configuration of the model says.
        greedy = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "return_dict_in_generate": False}
        padding = {"pad_token_id": self._tokens.padding}
        ids: Tensor = self.module.generate(**given, attention_mask=mask, max_new_tokens=most, **greedy, **padding)
        return ids

    def _values(self, written: Sequence[str], context: Mapping[str, Tensor]) -> list[float]:
        """Of each text that was written, what has to reach the limit."""
        return [self._value(*pair) for pair in zip(written, self._targets_of(context), strict=True)]

    def _value(self, written: str, target: Target) -> float:
        return VALUES[self._holds.form](written, target.text)


def _key(reference: str) -> int:
    return keyed.key("target", reference)
