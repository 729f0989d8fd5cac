"""theta: what the user has, seen as one small protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import nn

from pytest_robust.errors import ModelError
from pytest_robust.models.bpda import NonDifferentiable
from pytest_robust.models.devices import resolve_device
from pytest_robust.models.function import function_model
from pytest_robust.models.hugging_face import is_pipeline, is_text_pair, pipeline_model, text_model
from pytest_robust.models.protocol import Batch, Model
from pytest_robust.models.randomised import Randomised, redrawn
from pytest_robust.models.spans import Spans
from pytest_robust.models.text_function import TextFunction
from pytest_robust.models.torch_module import Normalize, TorchModel

__all__ = [
    "Batch",
    "Model",
    "NonDifferentiable",
    "Normalize",
    "Randomised",
    "TextFunction",
    "adapt",
    "redrawn",
    "resolve_device",
]

_KINDS: tuple[tuple[Callable[[object], bool], Callable[..., Model], bool], ...] = (
    (lambda model: isinstance(model, nn.Module), TorchModel, False),
    (is_text_pair, text_model, True),
    (is_pipeline, pipeline_model, True),
    (lambda model: callable(model) and not isinstance(model, type), function_model, False),
)
"""How a kind of model is recognised, what makes a ``Model`` of it, and whether it reads text; the first that fits counts."""


def adapt(
    model: object,
    *,
    device: str = "auto",
    normalize: Normalize | None = None,
    classes: Sequence[str] | None = None,
    non_differentiable: NonDifferentiable | None = None,
    spans: Spans | None = None,
) -> Model:
    """``model`` as a ``Model``; one that is adapted already comes back as it is.

    Args:
        model: a ``torch.nn.Module``, a sequence or token classifier of Hugging Face as ``(model, tokenizer)`` or pipeline,
            or a function from a batch tensor to logits.
        device: where to run. The user's own module is never moved: where it is elsewhere, a copy runs.
        normalize: ``(mean, std)``, numbers or one per channel, folded into the model, so that data stays in its own units.
        classes: names in the order of the outputs. Default: those of a Hugging Face configuration, else None.
        non_differentiable: submodules without a useful gradient, by name or themselves: a list of them, for which the
            identity stands in the backward pass, or a mapping to functions that do (None: the identity).
        spans: for text: a function from a text, or a pair as a tuple, to the (start, end) of the characters that may be
            attacked; tokens that do not lie wholly inside one span stay. Of a pair, characters are counted through both
            texts. Default: all of the text.

    Raises:
        ModelError: not a model that is known here, or one that cannot be used as asked.
    """
    if _is_adapted(model):
        adapted = cast("Model", model)
        _refuse_changes(adapted, device, normalize, classes, non_differentiable, spans)
        return adapted
    options: dict[str, object] = {
        "device": device,
        "normalize": normalize,
        "classes": classes,
        "non_differentiable": non_differentiable,
    }
    for recognises, build, reads_text in _KINDS:
        if recognises(model):
            if spans is not None and not reads_text:
                raise ModelError(f"spans are characters of texts, and {type(model).__name__} takes tensors; leave them out")
            return build(model, **options, **({"spans": spans} if spans is not None else {}))
    what = f"the class {model.__name__}; give an instance of it" if isinstance(model, type) else f"a {type(model).__name__}"
    raise ModelError(
        f"the model is {what}, where one of these is needed: a torch.nn.Module, (model, tokenizer) or a pipeline of "
        "Hugging Face that classifies texts or tokens, or a function from a batch tensor to logits"
    )


def _is_adapted(model: Any) -> bool:
    names = (
        "name",
        "space",
        "device",
        "dtype",
        "classes",
        "notes",
        "training_parts",
        "approximated",
        "read",
        "encode",
        "batch",
        "logits",
        "isolated",
    )
    return not isinstance(model, (nn.Module, type)) and all(hasattr(model, name) for name in names)


def _refuse_changes(
    model: Model,
    device: str,
    normalize: Normalize | None,
    classes: Sequence[str] | None,
    non_differentiable: NonDifferentiable | None,
    spans: Spans | None,
) -> None:
    """What was settled when the model was adapted is not silently ignored now."""
    given = {
        "normalize": normalize is not None,
        "classes": classes is not None and tuple(classes) != model.classes,
        "non_differentiable": bool(non_differentiable),
        "spans": spans is not None,
        "device": device != "auto" and resolve_device(device) != model.device,
    }
    for name, differs in given.items():
        if differs:
            raise ModelError(f"{name} was given for {model.name}, which is adapted already; give it to adapt() instead")
