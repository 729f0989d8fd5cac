"""Models of Hugging Face with their tokenizers: how they are recognised, and sequence classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pytest_robust.errors import ModelError
from pytest_robust.models.embedded_text import EmbeddedText, original
from pytest_robust.models.forward import class_names
from pytest_robust.models.outputs import as_logits
from pytest_robust.models.token_classification import TokenClassifier

_PIPELINES = ("TextClassificationPipeline", "TokenClassificationPipeline")


def is_text_pair(model: object) -> bool:
    """Whether ``model`` is (something, something): only ``(model, tokenizer)`` is known in that form."""
    return isinstance(model, (tuple, list)) and len(model) == 2


def is_pipeline(model: object) -> bool:
    """Whether ``model`` is a pipeline of transformers."""
    return any(c.__name__ == "Pipeline" and c.__module__.startswith("transformers.") for c in type(model).__mro__)


def text_model(pair: Sequence[Any], **options: Any) -> EmbeddedText:
    """``(model, tokenizer)`` as a ``Model``, by the name of the model's class.

    Raises:
        ModelError: a model that writes texts, of which nobody has said what has to hold.
    """
    _refuse_writers(pair[0])
    tags_tokens = any(c.__name__.endswith("ForTokenClassification") for c in type(original(pair[0])).__mro__)
    return (TokenClassifier if tags_tokens else TextModel)(pair[0], pair[1], **options)


def pipeline_model(pipeline: Any, **options: Any) -> EmbeddedText:
    """A pipeline that classifies texts or tokens as a ``Model``: its model and tokenizer; its post-processing plays no
    part.
    """
    _refuse_writers(getattr(pipeline, "model", None))
    if not any(c.__name__ in _PIPELINES for c in type(pipeline).__mro__):
        raise ModelError(
            f"the model is a {type(pipeline).__name__}; of pipelines, only text-classification and token-classification "
            "are supported"
        )
    return text_model((pipeline.model, pipeline.tokenizer), **options)


def _refuse_writers(module: Any) -> None:
    can_generate = getattr(original(module), "can_generate", None)
    if not callable(can_generate) or not can_generate():
        return
    translates = getattr(module.config, "is_encoder_decoder", False)
    kind, holds = ("Translator", "consistency>=0.7") if translates else ("CausalLM", "nll<=0.5")
    raise ModelError(
        f"{type(original(module)).__name__} writes texts, and what has to hold of them is for you to say: "
        f"pytest_robust.{kind}(model, tokenizer, holds={holds!r})"
    )


class TextModel(EmbeddedText):
    """A sequence classifier, of texts or of pairs of them."""

    @staticmethod
    def _check_head(module: Any) -> None:
        name, config = type(module).__name__, module.config
        if not name.endswith("ForSequenceClassification") and not hasattr(config, "num_labels"):
            raise ModelError(f"{name} is not a sequence classifier; use AutoModelForSequenceClassification")
        problem, outputs = getattr(config, "problem_type", None), config.num_labels
        if problem == "multi_label_classification":
            raise ModelError(
                f"{name} is configured for several labels per text, which is not supported; wrap it for one label"
            )
        if problem == "regression" or (outputs == 1 and problem != "single_label_classification"):
            raise ModelError(
                f"{name} has {outputs} output and is configured for regression; if its one logit decides between two "
                "classes, set model.config.problem_type = 'single_label_classification'"
            )

    def _class_names(self, given: Sequence[str] | None) -> tuple[str, ...] | None:
        return class_names(self.module.config, given)

    def _observed(self, output: object, batch_size: int) -> Tensor:
        return as_logits(output, batch_size)
