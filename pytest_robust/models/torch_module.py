"""Any torch module from tensors to logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from pytest_robust.data import load
from pytest_robust.data.examples import Column, Examples, Inputs
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.bpda import NonDifferentiable, approximated, approximations
from pytest_robust.models.devices import placed
from pytest_robust.models.forward import Forward, class_names
from pytest_robust.models.modes import training_parts
from pytest_robust.models.protocol import Batch
from pytest_robust.models.submodules import parameters, tensors

Normalize = tuple[float | Sequence[float] | Tensor, float | Sequence[float] | Tensor]
"""Mean and standard deviation, each a number or one per channel."""


class TorchModel:
    """A ``torch.nn.Module`` as a ``Model``: the point is its input, in the units of the user's data.

    A tensor is passed as the only argument. Of a mapping of columns the one of floating type is the point; the others go
    along, all by name.

    The point has the module's floating type, or float32 where that is coarser: a small step must not be rounded away, so it
    is cast inside the forward pass, through which gradients flow back.
    """

    space = "input"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str = "auto",
        normalize: Normalize | None = None,
        classes: Sequence[str] | None = None,
        non_differentiable: NonDifferentiable | None = None,
        name: str | None = None,
    ) -> None:
        """``normalize=(mean, std)`` makes the logits those of ``module((x - mean) / std)``; the rest is as in ``adapt``.

        Raises:
            ModelError: lazy parameters or those of inference mode, a device that is not there, or unusable ``normalize``,
                ``classes`` or ``non_differentiable``.
        """
        refuse_unusable(module)
        self.name = name or type(getattr(module, "_orig_mod", module)).__name__  # not OptimizedModule, of torch.compile
        self._approximations = approximations(module, non_differentiable)
        self.approximated = tuple(self._approximations)
        self.module, self.device = placed(module, device)
        self.classes = class_names(getattr(module, "config", None), classes)
        self.dtype = floating_dtype(self.module)
        self._point_dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        self._normalize = None if normalize is None else _mean_and_std(normalize, self.device, self._point_dtype)
        self._forward = Forward(self.name)
        self._point: str | None = None

    def training_parts(self) -> tuple[str, ...]:
        """The submodules in training mode that act differently in it."""
        return training_parts(self.module)

    def read(self, data: object) -> Examples:
        return load(data, classes=self.classes)

    def encode(self, examples: Examples) -> Examples:
        """The examples as they are.

        Raises:
            PreflightError: texts, no floating-point input, or several.
        """
        self._choose_point(examples.inputs)
        return examples

    def batch(self, inputs: Inputs) -> Batch:
        point = self._choose_point(inputs)
        if isinstance(inputs, dict):
            columns = {key: _stacked(column).to(self.device) for key, column in inputs.items()}
        else:
            columns = {"": _stacked(inputs).to(self.device)}
        x = columns.pop(point).to(self._point_dtype)
        self._check_channels(x)
        self._point = point or None
        return Batch(x, columns)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits at ``x``; see the protocol."""
        return self._forward(lambda point: self._call(self._prepared(point), context), x)

    def isolated(self) -> AbstractContextManager[None]:
        return approximated(self.module, self._approximations)

    def _call(self, x: Tensor, context: dict[str, Tensor]) -> object:
        if self._point is None:
            return self.module(x)
        # Copies, since the module may write into them and they serve every step of an attack.
        return self.module(**{self._point: x}, **{key: value.clone() for key, value in context.items()})

    def _prepared(self, x: Tensor) -> Tensor:
        if self._normalize is not None:
            mean, std = (_along_channels(part, x) for part in self._normalize)
            x = (x - mean) / std
        return x.to(self.dtype)

    def _choose_point(self, inputs: Inputs) -> str:
        """The name of the column that the attack moves, empty for a tensor."""
        columns: dict[str, Column]
        if isinstance(inputs, dict):
            columns = inputs
        elif isinstance(inputs, Tensor) or isinstance(inputs[0], Tensor):
            columns = {"": _first(inputs)}
        else:
            raise PreflightError(f"inputs: {self.name} was given texts; give it with its tokenizer: (model, tokenizer)")
        floating = [key for key, column in columns.items() if _first(column).is_floating_point()]
        if len(floating) > 1:
            raise PreflightError(
                f"inputs: the columns {' and '.join(floating)} are floating-point, and only one can be attacked; "
                "wrap the model in a module that takes the others from elsewhere"
            )
        if not floating:
            kinds = ", ".join(f"{key} {_first(column).dtype}".strip() for key, column in columns.items())
            raise PreflightError(
                f"inputs: {self.name} was given no floating-point input ({kinds}), and integers have no small changes; "
                "for token ids give (model, tokenizer) and texts, for pixels use inputs.float() / 255, else inputs.float()"
            )
        return floating[0]

    def _check_channels(self, x: Tensor) -> None:
        for name, part in zip(("mean", "std"), self._normalize or (), strict=False):
            sizes = part.shape[0] if part.ndim == 1 else 1
            if x.ndim < 2 or sizes not in (1, x.shape[1]):
                raise PreflightError(
                    f"normalize: {name} has {sizes} channels, and a batch of inputs has shape {tuple(x.shape)}; "
                    "give one number, or one per channel (dimension 1)"
                )


def floating_dtype(module: nn.Module) -> torch.dtype:
    """The type of the module's first floating-point parameter or buffer; torch's default type where it has none."""
    return next((t.dtype for t in tensors(module) if t.is_floating_point()), torch.get_default_dtype())


def refuse_unusable(module: nn.Module) -> None:
    """Raises ModelError for a module whose parameters have no shape before its first batch, or allow no gradients."""
    if any(nn.parameter.is_lazy(t) for t in tensors(module)):
        raise ModelError(
            f"{type(module).__name__} has lazy parameters that no batch has given a shape yet; "
            "run it on one batch, or load its trained weights, before evaluating it"
        )
    if any(parameter.is_inference() for parameter in parameters(module)):
        raise ModelError(
            f"{type(module).__name__} was built or loaded inside torch.inference_mode(), and torch takes no gradients "
            "through such parameters; build it outside, or give copy.deepcopy(model), made outside"
        )


def _mean_and_std(normalize: Normalize, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    try:
        mean, std = (torch.as_tensor(part, dtype=dtype, device=device).squeeze() for part in normalize)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"normalize={normalize!r} cannot be read ({error}); give (mean, std), each a number or one per channel"
        ) from None
    if mean.ndim > 1 or std.ndim > 1 or not mean.isfinite().all() or not std.isfinite().all() or not (std > 0).all():
        raise ModelError(
            f"normalize={normalize!r}: mean and std must be finite, one number or one per channel, and std positive; "
            "give those that the training data was normalised with"
        )
    return mean, std


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 2)) if values.ndim == 1 else values


def _first(column: Inputs) -> Tensor:
    """A tensor of the column's type."""
    return column if isinstance(column, Tensor) else column[0]  # type: ignore[index,return-value]


def _stacked(column: Inputs) -> Tensor:
    return column if isinstance(column, Tensor) else torch.stack(column)  # type: ignore[arg-type]
