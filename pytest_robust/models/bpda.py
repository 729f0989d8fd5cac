"""Backward passes through parts of a model that have no gradient.

Backward pass differentiable approximation (BPDA: Athalye et al., "Obfuscated gradients give a false sense of security",
ICML 2018, section 4.1): forward the part itself, backward a differentiable function that is close to it. With the identity
in that place it is the straight-through estimator (Bengio et al., 2013).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pytest_robust.errors import ModelError
from pytest_robust.models.isolation import isolated, uncompiled
from pytest_robust.models.outputs import is_out_of_memory
from pytest_robust.models.submodules import modules_in, named_submodules

Approximation = Callable[..., object]
"""Called as the submodule is; returns a tensor of its output's shape, differentiable in its input."""
NonDifferentiable = Mapping[str, Approximation | None] | Mapping[nn.Module, Approximation | None] | Sequence[str | nn.Module]
"""Submodules, by name or themselves, with what stands for them in the backward pass: None, or no mapping: the identity."""

_COMPILED = "_orig_mod"
"""Where ``torch.compile`` keeps the module that it compiles."""


def approximations(module: nn.Module, given: NonDifferentiable | None) -> dict[str, Approximation | None]:
    """``given`` by the names that the submodules have in ``module``; a name needs no ``_orig_mod`` of ``torch.compile``.

    Raises:
        ModelError: no such submodule, or an approximation that cannot be called.
    """
    if given is None:
        return {}
    if isinstance(given, (str, nn.Module)) or not isinstance(given, (Mapping, Sequence, set, frozenset)):
        raise ModelError(
            f"non_differentiable={given!r:.80} is not a list of submodules, nor a mapping: write [...] around it"
        )
    pairs: dict[Any, Any] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    for part, approximation in pairs.items():
        if approximation is not None and not callable(approximation):
            raise ModelError(
                f"non_differentiable: for {_called(part)} a {type(approximation).__name__} was given; give a function that "
                "approximates it and has a gradient, or None for the identity"
            )
    parts = _by_name(module)
    return {_name_of(part, parts): approximation for part, approximation in pairs.items()}


@contextmanager
def approximated(module: nn.Module, chosen: Mapping[str, Approximation | None]) -> Iterator[None]:
    """``isolated(module)``, and inside gradients flow through these approximations; outputs are the module's own.

    Forward hooks do it, which are gone on leaving, also by an exception. Where something is compiled by ``torch.compile``,
    it runs uncompiled inside: compiled code does not notice new hooks.

    Args:
        chosen: from ``approximations``.
    """
    with ExitStack() as stack:
        stack.enter_context(isolated(module))
        for own in (part for approximation in chosen.values() for part in modules_in(approximation)):
            stack.enter_context(isolated(own))
        if chosen:
            stack.enter_context(uncompiled())
        parts = _by_name(module)
        substitutes = [_Substitute(name, approximation) for name, approximation in chosen.items()]
        for substitute in substitutes:
            part = parts[substitute.name]
            # First, so that the user's own hooks belong to what is approximated.
            before = part.register_forward_pre_hook(substitute.before, prepend=True, with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(part.register_forward_hook(substitute.after, with_kwargs=True).remove)

        def check(*_: object) -> None:
            for substitute in substitutes:
                if not substitute.called:
                    raise ModelError(
                        f"non_differentiable: the forward pass did not call {substitute.name!r} as a module, so nothing can "
                        "stand for it; name the module that is called, or put the operation into a module of its own"
                    )

        if chosen:
            stack.callback(parts[""].register_forward_hook(check).remove)
        yield


class _Substitute:
    """The two hooks of one submodule."""

    def __init__(self, name: str, approximation: Approximation | None) -> None:
        self.name, self.approximation = name, approximation
        self.called = False
        self._given: tuple[tuple[Any, ...], dict[str, Any], list[Tensor]] | None = None

    def before(self, _: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Keep the input, and give the submodule one that is cut off from it."""
        self.called, self._given = True, None
        if not torch.is_grad_enabled():
            return None
        copies: list[Tensor] = []

        def cut(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.requires_grad:
                return value
            copies.append(value.detach().clone())
            return copies[-1]

        given = tuple(cut(value) for value in args), {key: cut(value) for key, value in kwargs.items()}
        if copies:
            self._given = args, kwargs, copies
        return given

    def after(self, _: nn.Module, __: Any, ___: Any, output: object) -> Tensor | None:
        """The output, with the gradient of the approximation at the kept input."""
        if self._given is None:
            return None
        (args, kwargs, copies), self._given = self._given, None
        if not isinstance(output, Tensor) or not output.is_floating_point():
            what = str(output.dtype) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ModelError(
                f"non_differentiable: {self.name!r} returns {what}, through which no gradient can be passed; "
                "name a module around it that returns a tensor of floats"
            )
        if any(copy._version for copy in copies):
            raise ModelError(
                f"non_differentiable: {self.name!r} writes into its input, which hides what it was given; "
                "let it return a new tensor (round instead of round_, say)"
            )
        return _Through.apply(output.detach(), self._soft(args, kwargs, output))  # type: ignore[no-any-return,no-untyped-call]

    def _soft(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        if self.approximation is None:
            first: Tensor = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            if first.shape != output.shape:
                raise ModelError(
                    f"non_differentiable: {self.name!r} turns shape {tuple(first.shape)} into {tuple(output.shape)}, so the "
                    "identity cannot stand for it; give a function that approximates it: "
                    f"non_differentiable={{{self.name!r}: function}}"
                )
            return first
        try:
            soft = self.approximation(*args, **kwargs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"non_differentiable: the approximation of {self.name!r} raised {type(error).__name__}: {error}; "
                "it is called with what the module is called with"
            ) from error
        shape = tuple(soft.shape) if isinstance(soft, Tensor) else f"a {type(soft).__name__}"
        if not isinstance(soft, Tensor) or soft.shape != output.shape:
            raise ModelError(
                f"non_differentiable: {self.name!r} returns shape {tuple(output.shape)}, and its approximation {shape}; "
                "it must return a tensor of the same shape"
            )
        return soft


class _Through(torch.autograd.Function):
    """The first tensor, with the gradient going to the second."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, soft: Tensor) -> Tensor:
        # A copy: layers that follow may write into it.
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[None, Tensor]:
        return None, grad[0]


def _by_name(module: nn.Module) -> dict[str, nn.Module]:
    """Every module inside, by its name without the steps into compiled modules; the compiled one counts, not its shell."""
    named = [(name.split("."), part) for name, part in named_submodules(module)]
    return {".".join(step for step in steps if step not in ("", _COMPILED)): part for steps, part in named}


def _name_of(part: object, parts: Mapping[str, nn.Module]) -> str:
    if isinstance(part, str):
        name = ".".join(step for step in part.split(".") if step != _COMPILED)
        if name and name in parts:
            return name
    else:
        inner = getattr(part, _COMPILED, part)
        found = next((name for name, known in parts.items() if known is inner), None)
        if found is not None:
            return found
    known = [name for name in parts if name]
    close = difflib.get_close_matches(part, known) if isinstance(part, str) else []
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {_few(known)}"
    raise ModelError(f"non_differentiable: the model has no submodule {_called(part)}; {hint}")


def _called(part: object) -> str:
    return repr(part) if isinstance(part, str) else f"that is this {type(part).__name__}"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    if not names:
        return "none: put the operation into a torch.nn.Module of its own, and call that in forward()"
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")
