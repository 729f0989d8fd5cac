"""Translation by a sequence-to-sequence model: broken when a changed source is translated worse, or otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError
from pytest_robust.models.generation import IGNORED, Target, Writer
from pytest_robust.models.pairs import PROPORTIONATE
from pytest_robust.models.similarity import chrf, proportion
from pytest_robust.models.spans import Spans
from pytest_robust.models.tokens import Row

_ALIKE = "likeness of the source"
"""The column with chrF of the text that is translated against the source as it is, a float64 by its bits: token ids know no
more of it than the tokenizer keeps. No argument of a model can be called so."""


class Translator(Writer):
    """A sequence-to-sequence model with its tokenizer, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    Data is a list of ``(source, reference)``; for ``consistency``, and ``nll``, sources alone will do: then the translation
    of the source as it is stands for the reference. How its logits are made is that of every ``Writer``.
    """

    read_as = "source"
    words = (PROPORTIONATE,)

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        holds: str = "consistency>=0.7",
        max_new_tokens: int = 128,
        device: str = "auto",
        spans: Spans | None = None,
    ) -> None:
        """
        Args:
            module: such as ``AutoModelForSeq2SeqLM`` loads.
            holds: ``"chrf>=0.4"``: chrF against the reference (Popovic, WMT 2015; from 0 to 1, by sacrebleu) is at least
                that. ``"consistency>=0.7"``: chrF against the translation of the source as it is, the mean of both
                directions, is.
                ``"nll<=0.5"``: the negative log-likelihood per token rises by no more.
                ``"proportionate"``: of its chrF against the reference the translation loses no larger share than was
                changed of the source, see ``similarity.proportion``; of edited texts only.
            max_new_tokens: of a translation. device, spans: as in ``adapt``.

        Raises:
            ModelError: not such a model or condition, or sacrebleu is not installed.
        """
        super().__init__(module, tokenizer, holds=holds, max_new_tokens=max_new_tokens, device=device, spans=spans)

    @staticmethod
    def _check_head(module: Any) -> None:
        able = hasattr(module, "prepare_decoder_input_ids_from_labels") and hasattr(module, "generate")
        if not able or not getattr(module.config, "is_encoder_decoder", False):
            raise ModelError(
                f"{type(module).__name__} is no sequence-to-sequence model; load one with AutoModelForSeq2SeqLM (T5, Bart, "
                "Marian, M2M100, ...)"
            )

    @property
    def between_texts(self) -> bool:
        return self._holds.form != PROPORTIONATE

    @torch.no_grad()
    def translate(self, texts: Sequence[str]) -> list[str]:
        """The greedy translations of texts; inside ``isolated()``."""
        found = []
        for text in texts:
            one: list[Text] = [text]
            (row,) = self._tokens.rows(one)
            ids = self._generated({"input_ids": torch.tensor([row.ids], device=self.device)}, self._most)
            found += self._tokens.texts(ids)
        return found

    def _arguments(self, context: dict[str, Tensor]) -> dict[str, Tensor]:
        decoder = self.module.prepare_decoder_input_ids_from_labels(labels=self._labels(context))
        return {**super()._arguments(context), "decoder_input_ids": decoder}

    def _target(self, said: Mapping[str, Any]) -> Target:
        reference, source = said["reference"], said[self.read_as]
        text = reference or self.translate([source])[0]
        before = chrf(self.translate([source])[0], text) if self._holds.form == PROPORTIONATE else None
        return Target(text, torch.tensor(self._tokens.target(text), device=self.device), chrf=before)

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        row = super()._completed(row, examples, i)
        if self._holds.form != PROPORTIONATE:
            return row
        source = json.loads(cast("Sequence[str]", examples.references)[i])[self.read_as]
        alike = np.float64(chrf(cast("Sequence[str]", examples.inputs)[i], source))
        return replace(row, others={**row.others, _ALIKE: [int(alike.view(np.int64))] * len(row.ids)})

    def _values(self, written: Sequence[str], context: Mapping[str, Tensor]) -> list[float]:
        if self._holds.form != PROPORTIONATE:
            return super()._values(written, context)
        alike: list[float] = context[_ALIKE][:, 0].view(torch.float64).tolist()
        targets = self._targets_of(context)
        after = [chrf(one, target.text) for one, target in zip(written, targets, strict=True)]
        return [proportion(s, target.chrf or 0.0, q) for s, target, q in zip(alike, targets, after, strict=True)]

    def _labels(self, context: Mapping[str, Tensor]) -> Tensor:
        ids = [target.ids for target in self._targets_of(context)]
        return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=IGNORED)
