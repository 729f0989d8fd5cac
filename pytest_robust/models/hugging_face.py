"""Hugging Face sequence classifiers: texts, attacked in the space of their token embeddings.

transformers is never imported here: whoever has its models has it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pytest_robust.data.examples import Column, Examples, Inputs
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.bpda import NonDifferentiable, approximated, approximations
from pytest_robust.models.devices import placed
from pytest_robust.models.forward import Forward, class_names
from pytest_robust.models.modes import training_parts
from pytest_robust.models.protocol import Batch
from pytest_robust.models.tokens import Row, Tokens
from pytest_robust.models.torch_module import Normalize, floating_dtype, refuse_unusable

_PADDINGS = (16, 1)
"""Lengths are padded to a multiple of the first of these under which padding does not change the logits: 16 lets texts of
similar length share a batch; models that read the last position (GPT-2) need 1."""
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4}
_COARSE_TOLERANCE = 5e-2
"""How far logits from embeddings may be from those of ids, relative to max(1, |logits|); the second for half precision."""


def is_text_pair(model: object) -> bool:
    """Whether ``model`` is (something, something): only ``(model, tokenizer)`` is known in that form."""
    return isinstance(model, (tuple, list)) and len(model) == 2


def is_pipeline(model: object) -> bool:
    """Whether ``model`` is a pipeline of transformers."""
    return any(c.__name__ == "Pipeline" and c.__module__.startswith("transformers.") for c in type(model).__mro__)


def text_model(pair: Sequence[Any], **options: Any) -> TextModel:
    """``(model, tokenizer)`` as a ``Model``."""
    return TextModel(pair[0], pair[1], **options)


def pipeline_model(pipeline: Any, **options: Any) -> TextModel:
    """A text-classification pipeline as a ``Model``: its model and tokenizer; its post-processing plays no part."""
    if not any(c.__name__ == "TextClassificationPipeline" for c in type(pipeline).__mro__):
        raise ModelError(f"the model is a {type(pipeline).__name__}; of pipelines, only text-classification is supported")
    return TextModel(pipeline.model, pipeline.tokenizer, **options)


class TextModel:
    """A sequence classifier and its tokenizer as a ``Model``: the point is the (B, L, D) embeddings of the tokens.

    Padding and special tokens do not move. That the logits from embeddings are those from token ids is checked on a few
    examples before anything else, since several architectures treat the two differently.

    Attributes:
        notes: what the user should know about the texts, in sentences (how many were cut, say).
    """

    space = "embedding"

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        device: str = "auto",
        normalize: Normalize | None = None,
        classes: Sequence[str] | None = None,
        non_differentiable: NonDifferentiable | None = None,
    ) -> None:
        """Raises ModelError for what is not a single-label sequence classifier with its tokenizer."""
        _check_kind(module, tokenizer)
        if normalize is not None:
            raise ModelError("normalize is for images; a text model's embeddings are its own: leave it out")
        refuse_unusable(module)
        self.name = type(module).__name__
        self._approximations = approximations(module, non_differentiable)
        self.approximated = tuple(self._approximations)
        on_device, self.device = placed(module, device)
        self.module: Any = on_device
        self.classes = class_names(module.config, classes)
        self.notes: tuple[str, ...] = ()
        self._dtype = floating_dtype(self.module)
        self._multiple = 1
        self.tokens = Tokens(tokenizer, module)
        self._accepts = frozenset(inspect.signature(module.forward).parameters)
        self._forward = Forward(self.name)

    def training_parts(self) -> tuple[str, ...]:
        """The submodules in training mode that act differently in it."""
        return training_parts(self.module)

    def encode(self, examples: Examples) -> Examples:
        """The examples as token ids and masks, one tensor each; each padded by itself to a multiple of 16.

        Raises:
            PreflightError: not texts, or one in which nothing can move.
            ModelError: the logits from embeddings are not those from token ids.
        """
        rows, cut = self.tokens.rows(examples.inputs)
        for i, row in enumerate(rows):
            if all(row.special):
                raise PreflightError(
                    f"inputs: example {i} (id {examples.ids[i]}) has no words to move: it is empty, or has only special "
                    "tokens; drop such texts from the data"
                )
        self.notes = (f"{cut} of {len(rows)} texts were cut to the model's {self.tokens.limit} tokens",) if cut else ()
        with self.isolated():
            self._multiple = self._padding(rows)
        return replace(examples, inputs=self.padded(rows))

    def batch(self, inputs: Inputs) -> Batch:
        if not isinstance(inputs, dict):
            raise PreflightError(f"inputs: {self.name} takes encoded texts; call encode() on the examples first")
        columns = {key: _stacked(column).to(self.device) for key, column in inputs.items()}
        attended = columns["attention_mask"].bool()
        free = (attended & (columns["special"] == 0)).unsqueeze(-1)
        with torch.no_grad():
            embedded = self._get_embeddings()(columns["input_ids"])
        # A small step must not be rounded away: the point is no coarser than float32, and cast inside the forward pass.
        x = embedded if embedded.dtype == torch.float64 else embedded.float()
        return Batch(x.clone(), self._context(columns), free)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits at the embeddings ``x``; see the protocol."""
        return self._forward(lambda point: self.module(inputs_embeds=point.to(self._dtype), **context), x)

    def isolated(self) -> AbstractContextManager[None]:
        return approximated(self.module, self._approximations)

    def padded(self, rows: Sequence[Row]) -> dict[str, Column]:
        """Rows as inputs for ``batch``, each padded by itself as ``encode`` found that it may be."""
        return self.tokens.padded(rows, self._multiple)

    def embedded(self, ids: Tensor) -> Tensor:
        """(..., D) what the model makes of token ids (...), as the points of ``batch`` are."""
        with torch.no_grad():
            found: Tensor = self._get_embeddings()(ids)
        return found

    def _get_embeddings(self) -> Callable[[Tensor], Tensor]:
        # The module, not its weight: some scale what they look up.
        embeddings: Callable[[Tensor], Tensor] = self.module.get_input_embeddings()
        return embeddings

    def _context(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: columns[key] for key in ("attention_mask", "token_type_ids") if key in columns and key in self._accepts}

    def _padding(self, rows: list[Row]) -> int:
        """The first of ``_PADDINGS`` under which logits from padded embeddings are those of the token ids alone."""
        tolerance = _TOLERANCE.get(self._dtype, _COARSE_TOLERANCE)
        gaps: list[float] = []
        for multiple in _PADDINGS:
            by_padding = sorted(rows, key=lambda row: self.tokens.padded_length(row, multiple) - len(row.ids))
            by_length = sorted(rows, key=lambda row: len(row.ids))
            few = {id(row): row for row in (by_padding[-1], by_length[0], by_length[-1])}
            gaps.append(max(self._gap(row, multiple) for row in few.values()))
            if gaps[-1] <= tolerance:
                return multiple
        raise ModelError(
            f"{self.name} gives other logits for embeddings (inputs_embeds) than for the same token ids: they differ by "
            f"{gaps[-1]:.2g} of their size (allowed {tolerance:g}), so an attack would be on another model than yours; "
            "check that its forward() uses inputs_embeds as get_input_embeddings() returns them"
        )

    def _gap(self, row: Row, multiple: int) -> float:
        """Largest difference of the logits of ``row`` by embeddings and by ids, relative to max(1, largest logit)."""
        with torch.no_grad():
            alone = {key: _stacked(column).to(self.device) for key, column in self.tokens.padded([row], 1).items()}
            ids = alone["input_ids"]
            wanted = self._forward(lambda _: self.module(input_ids=ids, **self._context(alone)), ids)
            # Twice the same: some models refuse more than one row when they know no padding token.
            padded = self.tokens.padded([row, row], multiple)
            batch = self.batch({key: _stacked(column) for key, column in padded.items()})
            found = self.logits(batch.x, batch.context)
        if not wanted.isfinite().all():
            return 0.0  # Preflight has the better words for a model that returns NaN.
        gap = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
        return gap if gap == gap else float("inf")


def _stacked(column: Tensor | list[Tensor]) -> Tensor:
    return column if isinstance(column, Tensor) else torch.stack(column)


def _check_kind(module: Any, tokenizer: Any) -> None:
    name = type(module).__name__
    if not isinstance(module, nn.Module) or not hasattr(module, "get_input_embeddings") or not hasattr(module, "config"):
        raise ModelError(
            f"the model is a pair that begins with a {name}; a pair must be (model, tokenizer), a sequence classifier of "
            "transformers and its tokenizer"
        )
    if not callable(tokenizer) or not hasattr(tokenizer, "get_special_tokens_mask"):
        raise ModelError(
            f"{name} came with a {type(tokenizer).__name__}, where a tokenizer is needed: "
            "(model, AutoTokenizer.from_pretrained(...))"
        )
    if "inputs_embeds" not in inspect.signature(module.forward).parameters:
        raise ModelError(
            f"{name} does not take inputs_embeds, so its token embeddings cannot be attacked; "
            "use an architecture that does (BERT, RoBERTa, DeBERTa, GPT-2, Llama, ...)"
        )
    if not name.endswith("ForSequenceClassification") and not hasattr(module.config, "num_labels"):
        raise ModelError(f"{name} is not a sequence classifier; use AutoModelForSequenceClassification")
    config: Any = module.config
    problem, outputs = getattr(config, "problem_type", None), config.num_labels
    if problem == "multi_label_classification":
        raise ModelError(f"{name} is configured for several labels per text, which is not supported; wrap it for one label")
    if problem == "regression" or (outputs == 1 and problem != "single_label_classification"):
        raise ModelError(
            f"{name} has {outputs} output and is configured for regression; if its one logit decides between two classes, "
            "set model.config.problem_type = 'single_label_classification'"
        )
