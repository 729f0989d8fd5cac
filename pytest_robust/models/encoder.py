"""Encoders: models that make one vector of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from pytest_robust.data.examples import Text
from pytest_robust.errors import ModelError
from pytest_robust.models.corpus import CLASSES
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.spans import Spans

Pooling = Callable[[Tensor, Tensor], Tensor]


class Encoder(EmbeddedText):
    """An encoder with its tokenizer, judged by where the vector of a text lies."""

    def __init__(self, module: Any, tokenizer: Any, *, pooling: str | Pooling, device: str, spans: Spans | None) -> None:
        """
        Args:
            module: an encoder of transformers (``AutoModel``). pooling: ``"mean"`` over the tokens, ``"cls"``, or a function
                from hidden states (B, L, D) and the attention mask (B, L) to vectors (B, D). device, spans: as in ``adapt``.

        Raises:
            ModelError: not such a model or pooling.
        """
        if pooling not in ("mean", "cls") and not callable(pooling):
            raise ModelError(f"pooling={pooling!r} is not known; there is 'mean', 'cls', or a function of your own")
        self._pooling = pooling
        super().__init__(module, tokenizer, device=device, spans=spans)

    @staticmethod
    def _check_head(module: Any) -> None:
        if getattr(module.config, "is_encoder_decoder", False):
            raise ModelError(f"{type(module).__name__} has a decoder; a retriever is an encoder, as AutoModel loads it")

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        return CLASSES

    def _observed(self, output: object, batch_size: int) -> Tensor:
        hidden = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else output)
        wanted = "hidden states (batch, tokens, dimensions) are"
        return self._of_tokens(hidden, batch_size, wanted, "load the encoder with AutoModel")

    def _pooled(self, hidden: Tensor, attended: Tensor) -> Tensor:
        if self._pooling == "cls":
            return hidden[:, 0]
        if callable(self._pooling):
            vectors = self._pooling(hidden, attended)
            if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != len(hidden):
                shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
                raise ModelError(
                    f"pooling returned {shape} for hidden states {tuple(hidden.shape)}, where one vector per text, (batch, "
                    "dimensions), is needed"
                )
            return vectors
        weights = attended.to(hidden.dtype).unsqueeze(2)
        return (hidden * weights).sum(1) / weights.sum(1)

    @torch.no_grad()
    def _vectors(self, texts: Sequence[str], batch_size: int) -> Tensor:
        """(B, D) in the order of the texts; those of one length together, so that none is padded."""
        rows = self._tokens.rows(cast("list[Text]", list(texts)))
        by_length: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            by_length.setdefault(len(row.ids), []).append(i)
        found: list[Tensor | None] = [None] * len(texts)
        for which in by_length.values():
            for start in range(0, len(which), batch_size):
                part = which[start : start + batch_size]
                batch = self.batch(dict(self._tokens.padded([rows[i] for i in part], 1)))
                output = self.module(**self._arguments(batch.context))
                vectors = self._pooled(self._observed(output, len(part)), batch.context["attention_mask"])
                for i, vector in zip(part, vectors, strict=True):
                    found[i] = vector
        return torch.stack(cast("list[Tensor]", found))


def past(prefix: str, spans: Spans | None) -> Spans | None:
    """Spans that leave the prefix alone; the user's are those of the query without it."""
    if not prefix:
        return spans

    def after(text: Text) -> list[tuple[int, int]]:
        assert isinstance(text, str), "queries are single texts"
        begin = len(prefix)
        inside = [(0, len(text) - begin)] if spans is None else spans(text[begin:])
        return [(start + begin, end + begin) for start, end in inside]

    return after
