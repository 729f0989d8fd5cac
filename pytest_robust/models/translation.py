"""Translation by a sequence-to-sequence model: broken when a changed source is translated worse, or otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_robust.data.examples import Text
from pytest_robust.errors import ModelError
from pytest_robust.models.generation import IGNORED, Target, Writer
from pytest_robust.models.spans import Spans


class Translator(Writer):
    """A sequence-to-sequence model with its tokenizer, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    Data is a list of ``(source, reference)``; for ``consistency``, and ``nll``, sources alone will do: then the translation
    of the source as it is stands for the reference. How its logits are made is that of every ``Writer``.
    """

    read_as = "source"

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
        text = said["reference"] or self.translate([said[self.read_as]])[0]
        return Target(text, torch.tensor(self._tokens.target(text), device=self.device))

    def _labels(self, context: Mapping[str, Tensor]) -> Tensor:
        ids = [target.ids for target in self._targets_of(context)]
        return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=IGNORED)
