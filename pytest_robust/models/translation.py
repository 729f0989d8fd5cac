"""Translation by a sequence-to-sequence model: broken when a changed source is translated worse, or otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.budget import exact
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.parity import AS_ARGUMENT
from pytest_robust.models.spans import Spans
from pytest_robust.models.tokens import Row

_KEY = "translation key"
"""The column with the key of each reference, by its content; no argument of a model can be called so."""
_FORMS = "'chrf>=0.4', 'consistency>=0.7' or 'nll<=0.5'"
_IGNORED = -100


@dataclass(frozen=True)
class Target:
    """What a translation is held against.

    Attributes:
        text: the reference, or without one the translation of the source as it is. ids: (T,) its tokens.
        nll: negative log-likelihood per token that the model gives it for the source as it is; None before that is known.
    """

    text: str
    ids: Tensor
    nll: float | None = None


class Translator(EmbeddedText):
    """A sequence-to-sequence model with its tokenizer, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    Translations are greedy, so that they are the same each time. Logits are (m, 0). For ``chrf`` and ``consistency`` m is
    how far the value of the translation itself lies above the limit, and its gradient that of the likelihood of what it is
    held against: it leads a search, and nothing else rests on it. For ``nll`` both are of the likelihood.

    Data is a list of ``(source, reference)``; for ``consistency``, and ``nll``, sources alone will do: then the translation
    of the source as it is stands for the reference.
    """

    of_examples = ("_targets",)

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
        match = re.fullmatch(r"(?:(chrf|consistency)>=|(nll)<=)(.+)", holds.replace(" ", ""))
        try:
            limit = None if match is None else float(exact(match[3]))
        except ValueError as error:
            raise ModelError(f"holds={holds!r}: {error}") from None
        if match is None or limit is None or limit < 0 or (match[1] is not None and limit > 1):
            raise ModelError(f"holds={holds!r} cannot be read; write it like {_FORMS}")
        self._form, self._limit = match[1] or match[2], limit
        self._chrf = None if self._form == "nll" else _chrf()
        self._targets: dict[int, Target] = {}
        super().__init__(module, tokenizer, device=device, spans=spans)
        # A decoder with a table of positions can write no more than that has.
        self._most = max_new_tokens if self._tokens.limit is None else min(max_new_tokens, self._tokens.limit - 1)

    @staticmethod
    def _check_head(module: Any) -> None:
        able = hasattr(module, "prepare_decoder_input_ids_from_labels") and hasattr(module, "generate")
        if not able or not getattr(module.config, "is_encoder_decoder", False):
            raise ModelError(
                f"{type(module).__name__} is no sequence-to-sequence model; load one with AutoModelForSeq2SeqLM (T5, Bart, "
                "Marian, M2M100, ...)"
            )

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        return "holds", "fluctuates"

    def read(self, data: object) -> Examples:
        """Examples of ``(source, reference)``, or of sources alone.

        Raises:
            PreflightError: not such data, or an empty reference, or none where one is needed.
        """
        if isinstance(data, Examples):
            if data.references is None:
                raise PreflightError("data: these examples have no references; read them by read()")
            return data
        if not isinstance(data, (list, tuple)) or not data:
            raise PreflightError(f"data: a {type(data).__name__}; give a list of (source, reference), or of sources")
        texts: list[Text] = []
        references = []
        for i, item in enumerate(data):
            source, reference = (item, None) if isinstance(item, str) else _pair(item, i)
            if self._form == "chrf" and reference is None:
                raise PreflightError(
                    f"labels: source {i} has no reference to compare with; give (source, reference), or use "
                    "holds='consistency>=0.7', which needs none"
                )
            if reference is not None and not reference.strip():
                raise PreflightError(f"labels: the reference of source {i} is empty; give a translation, or drop it")
            texts.append(source)
            kept = None if self._form == "consistency" else reference
            references.append(json.dumps({"source": source, "reference": kept}, ensure_ascii=False))
        return Examples.of(texts, torch.zeros(len(texts), dtype=torch.int64), self.classes, references)

    def encode(self, examples: Examples) -> Examples:
        # Anew each time: the weights may have been trained on since these sources were last translated.
        for reference in examples.references or ():
            self._targets.pop(_key(reference), None)
        return super().encode(examples)

    @torch.no_grad()
    def _looked_at(self, rows: Sequence[Row]) -> None:
        """The likelihood of what each source is held against, where that is what has to hold."""
        for row in rows if self._form == "nll" else ():
            key = row.others[_KEY][0]
            if self._targets[key].nll is None:
                nll = self._nll(self._by_ids(row), torch.tensor([key]))
                self._targets[key] = replace(self._targets[key], nll=float(nll))

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits at the embeddings ``x``; see the class."""
        keys = context[_KEY][:, 0]
        nll = self._nll(self._seen(self._entry_of(context), x, context), keys) if self._needs_likelihood(x) else None
        if self._form == "nll":
            assert nll is not None, "it is always needed"
            before = [self._targets[key].nll or 0.0 for key in keys.tolist()]
            margin = self._limit - (nll - nll.new_tensor(before))
        else:
            with torch.no_grad():
                translations = self._translated(x, context)
            pairs = zip(translations, keys.tolist(), strict=True)
            values = [self._value(translation, self._targets[key].text) for translation, key in pairs]
            margin = x.new_tensor(values, dtype=torch.float64) - self._limit
            margin = margin if nll is None else margin - (nll - nll.detach())
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    @torch.no_grad()
    def translate(self, texts: Sequence[str]) -> list[str]:
        """The greedy translations of texts; inside ``isolated()``."""
        found = []
        for text in texts:
            one: list[Text] = [text]
            (row,) = self._tokens.rows(one)
            found += self._generated(input_ids=torch.tensor([row.ids], device=self.device))
        return found

    def _needs_likelihood(self, x: Tensor) -> bool:
        return self._form == "nll" or x.requires_grad

    def _arguments(self, context: dict[str, Tensor]) -> dict[str, Tensor]:
        labels = self._labels(context[_KEY][:, 0])
        decoder = self.module.prepare_decoder_input_ids_from_labels(labels=labels)
        return {**super()._arguments(context), "decoder_input_ids": decoder}

    def _observed(self, output: object, batch_size: int) -> Tensor:
        logits = getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.ndim != 3 or len(logits) != batch_size:
            raise ModelError(
                f"{self.name} returned no logits (batch, tokens, vocabulary); load it with AutoModelForSeq2SeqLM"
            )
        return logits if logits.dtype == torch.float64 else logits.float()

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        if examples.references is None:
            raise PreflightError("inputs: a translator reads its own data; call read() on it first")
        reference = examples.references[i]
        key = _key(reference)
        if key not in self._targets:
            said = json.loads(reference)
            with self.isolated():
                text = said["reference"] or self.translate([said["source"]])[0]
            ids = self._tokens.target(text)
            self._targets[key] = Target(text, torch.tensor(ids, device=self.device))
        return replace(row, others={**row.others, _KEY: [key] * len(row.ids)})

    def _labels(self, keys: Tensor) -> Tensor:
        """(B, T) the tokens of the targets, -100 beyond their end."""
        ids = [self._targets[key].ids for key in keys.tolist()]
        return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=_IGNORED)

    def _nll(self, logits: Tensor, keys: Tensor) -> Tensor:
        """(B,) negative log-likelihood per token of the targets."""
        labels = self._labels(keys)
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="none"
        ).view_as(labels)
        return each.sum(1) / (labels != _IGNORED).sum(1)

    def _translated(self, x: Tensor, context: dict[str, Tensor]) -> list[str]:
        """Of texts by their token ids, of points between texts by their embeddings."""
        ids, attended = context["input_ids"], context["attention_mask"]
        texts = (self.embedded(ids).to(x.dtype) == x).flatten(1).all(1).tolist()
        found: list[str] = []
        for i, is_text in enumerate(texts):
            length = int(attended[i].sum())
            if is_text:
                found += self._generated(input_ids=ids[i : i + 1, :length])
            elif self._entry_of(context) is AS_ARGUMENT:
                found += self._generated(inputs_embeds=x[i : i + 1, :length].to(self.dtype))
            else:
                raise ModelError(
                    f"{self.name} does not translate from embeddings as from texts; use holds='nll<=0.5' for embedding "
                    "balls, or edits of the text"
                )
        return found

    def _generated(self, **source: Tensor) -> list[str]:
        (given,) = source.values()
        mask = torch.ones(given.shape[:2], dtype=torch.int64, device=given.device)
        ids = self.module.generate(**source, attention_mask=mask, max_new_tokens=self._most, do_sample=False, num_beams=1)
        return self._tokens.texts(ids)

    def _value(self, translation: str, text: str) -> float:
        assert self._chrf is not None, "there is no value of a likelihood"
        if translation == text:
            return 1.0  # of two empty texts chrF is 0
        value = float(self._chrf.sentence_score(translation, [text]).score) / 100
        if self._form == "chrf":
            return value
        return (value + float(self._chrf.sentence_score(text, [translation]).score) / 100) / 2


def _key(reference: str) -> int:
    return keyed.key("translation", reference)


def _chrf() -> Any:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise ModelError(
            "chrF is computed by sacrebleu, which is not installed: pip install 'pytest-robust[mt]'; or use holds='nll<=0.5'"
        ) from None
    return CHRF()


def _pair(item: object, i: int) -> tuple[str, str]:
    if isinstance(item, (tuple, list)) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return item[0], item[1]
    raise PreflightError(f"data: example {i} is a {type(item).__name__}, where (source, reference) or a source is needed")
