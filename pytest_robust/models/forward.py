"""One call of the user's model: its memory kept apart from ours, its errors made readable, its output made logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from pytest_robust.errors import ModelError, RobustError
from pytest_robust.models.outputs import as_logits, is_out_of_memory

_IN_PLACE_ON_LEAF = "leaf variable that requires grad"
"""In the text of torch's refusal to let a model write into an input that gradients are taken of."""


class Forward:
    """Calls a model on a point that the model may not change.

    A model may write into its input (``ReLU(inplace=True)`` as the first layer). torch refuses that for a leaf that requires
    gradients, so such a point is passed as it is, and copied only once a model has been refused; all others are copied.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._writes_input = False

    def __call__(self, model: Callable[[Tensor], object], x: Tensor) -> Tensor:
        """(B, C) logits of ``model`` at ``x``, on the device of ``x``.

        Raises:
            ModelError: the model raised, or returned no logits. Running out of memory is raised as it is.
        """
        return as_logits(self.output(model, x), len(x)).to(x.device)

    def output(self, model: Callable[[Tensor], object], x: Tensor) -> object:
        """What ``model`` returns at ``x``, whatever it is.

        Raises:
            ModelError: the model raised. Running out of memory is raised as it is.
        """
        safe = x.requires_grad and x.is_leaf and not self._writes_input
        try:
            return model(x if safe else x.clone())
        except RobustError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if not self._writes_input and _IN_PLACE_ON_LEAF in str(error).lower():
                self._writes_input = True
                return self.output(model, x)
            raise ModelError(self._explain(error, x)) from error

    def _explain(self, error: Exception, x: Tensor) -> str:
        text = " ".join(str(error).split())
        text = text if len(text) <= 400 else text[:400] + " ..."
        given = f"{tuple(x.shape)}, {x.dtype} on {x.device}"
        return (
            f"{self.name} raised {type(error).__name__} on a batch of shape {given}: {text}; "
            "run it by hand on a batch like this one, and change the data or the model until it works"
        )


def class_names(config: object, given: object) -> tuple[str, ...] | None:
    """Class names in the order of the outputs: ``given``, else those of a Hugging Face ``config``, else None.

    Raises:
        ModelError: ``given`` is one text instead of several.
    """
    if isinstance(given, str):
        raise ModelError(f"classes={given!r} is one text; give a list of names, in the order of the model's outputs")
    if isinstance(given, (list, tuple)):
        return tuple(map(str, given))
    named = getattr(config, "id2label", None)
    if not isinstance(named, Mapping) or not named:
        return None
    by_number = {int(number): str(name) for number, name in named.items()}
    names = tuple(by_number.get(i, "") for i in range(len(by_number)))
    # LABEL_0, LABEL_1 is what transformers writes when nobody has named the classes.
    placeholder = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    return None if placeholder or not all(names) else names
