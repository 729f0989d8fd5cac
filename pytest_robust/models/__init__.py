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

_KINDS: tuple[tuple[Callable[[object], bool], Callable[..., Model]], ...] = (
    (lambda model: isinstance(model, nn.Module), TorchModel),
    (is_text_pair, text_model),
    (is_pipeline, pipeline_model),
    (lambda model: callable(model) and not isinstance(model, type), function_model),
)
"""How a kind of model is recognised, and what makes a ``Model`` of it; the first that fits is taken."""


def adapt(
    model: object,
    *,
    device: str = "auto",
    normalize: Normalize | None = None,
    classes: Sequence[str] | None = None,
    non_differentiable: NonDifferentiable | None = None,
) -> Model:
    """``model`` as a ``Model``; one that is adapted already comes back as it is.

    Args:
        model: a ``torch.nn.Module``, ``(model, tokenizer)`` or a text-classification pipeline of Hugging Face, or a function
            from a batch tensor to logits.
        device: where to run. The user's own module is never moved: where it is elsewhere, a copy runs.
        normalize: ``(mean, std)``, numbers or one per channel, folded into the model, so that data stays in its own units.
        classes: names in the order of the outputs. Default: those of a Hugging Face configuration, else None.
        non_differentiable: submodules without a useful gradient, by name or themselves: a list of them, for which the
            identity stands in the backward pass, or a mapping to functions that do (None: the identity).

    Raises:
        ModelError: not a model that is known here, or one that cannot be used as asked.
    """
    if _is_adapted(model):
        adapted = cast("Model", model)
        _refuse_changes(adapted, device, normalize, classes, non_differentiable)
        return adapted
    for recognises, build in _KINDS:
        if recognises(model):
            return build(model, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable)
    what = f"the class {model.__name__}; give an instance of it" if isinstance(model, type) else f"a {type(model).__name__}"
    raise ModelError(
        f"the model is {what}, where one of these is needed: a torch.nn.Module, (model, tokenizer) or a text-classification "
        "pipeline of Hugging Face, or a function from a batch tensor to logits"
    )


def _is_adapted(model: Any) -> bool:
    names = (
        "name",
        "space",
        "device",
        "classes",
        "notes",
        "training_parts",
        "approximated",
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
) -> None:
    """What was settled when the model was adapted is not silently ignored now."""
    given = {
        "normalize": normalize is not None,
        "classes": classes is not None and tuple(classes) != model.classes,
        "non_differentiable": bool(non_differentiable),
        "device": device != "auto" and resolve_device(device) != model.device,
    }
    for name, differs in given.items():
        if differs:
            raise ModelError(f"{name} was given for {model.name}, which is adapted already; give it to adapt() instead")
