"""A text model with the hidden states inside it moved: its point says by how much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pytest_robust.data.examples import Inputs
from pytest_robust.errors import ModelError
from pytest_robust.models.bpda import by_name, name_of
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.isolation import uncompiled
from pytest_robust.models.protocol import Batch
from pytest_robust.models.seen import Seen

_CLEAN, _FREE = "clean embeddings", "free tokens"
"""Where the context has the embeddings, and the tokens that may move; no argument of a model can be called so."""
_SAME = 1e-4
"""Difference of logits, as a share of the largest, that rounding explains."""


class Latent(Seen[EmbeddedText]):
    """A text model as a ``Model`` whose point, (B, L, D), is added to what one of its submodules returns.

    At 0 the model is as it is, which is checked before anything is moved, and that the submodule has a say at all. The text
    enters as ever, so what comes before the submodule never changes.
    """

    space = "latent"

    def __init__(self, model: EmbeddedText, module: str, *, norm: str, relative: bool) -> None:
        """
        Args:
            module: name of the submodule. relative: the point is in units of the median norm, ``"l2"`` or ``"linf"``, of the
                hidden states that may move, of each text by itself.

        Raises:
            ModelError: no such submodule, a model that writes its answer, pass by pass, or one in half precision, which
                would round small changes away.
        """
        if not model.in_one_pass:
            raise ModelError(
                f"LatentBall: what {model.name} writes is many forward passes, and hidden states are moved in one; use "
                "holds='nll<=0.5'"
            )
        if model.dtype in (torch.bfloat16, torch.float16):
            raise ModelError(
                f"LatentBall: {model.name} is in {str(model.dtype).removeprefix('torch.')}, which rounds small changes of "
                "hidden states away; evaluate model.float()"
            )
        parts = by_name(model.module)
        self._called = name_of(module, parts, "LatentBall")
        super().__init__(model)
        self._module, self._norm, self._relative = parts[self._called], norm, relative
        self._width: int | None = None

    def batch(self, inputs: Inputs) -> Batch:
        """Raises ModelError for a submodule that gives no vector per token, or that nothing hangs on."""
        clean = self._model.batch(inputs)
        free = torch.ones_like(clean.x[..., :1], dtype=torch.bool) if clean.free is None else clean.free
        context = {**clean.context, _CLEAN: clean.x, _FREE: free}
        if self._width is None:
            self._width = self._looked({name: tensor[:1] for name, tensor in context.items()})
        return Batch(clean.x.new_zeros(*clean.x.shape[:2], self._width), context, free)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        free = context[_FREE]

        def moved(hidden: Tensor) -> Tensor:
            by = x * self._unit(hidden, free) if self._relative else x
            return hidden + by.to(hidden.dtype)

        return self._with(moved, context)

    def _unit(self, hidden: Tensor, free: Tensor) -> Tensor:
        """(B, 1, 1) the median norm of the hidden states of the tokens that may move."""
        states = hidden.detach().float()
        norms = states.abs().amax(2) if self._norm == "linf" else states.norm(dim=2)
        return norms.masked_fill(~free.squeeze(2), torch.nan).nanmedian(1).values.view(-1, 1, 1)

    @torch.no_grad()
    def _looked(self, context: dict[str, Tensor]) -> int:
        """The size of the hidden states, after a look at what they do, on one text."""
        widths: list[int] = []

        def itself(hidden: Tensor) -> Tensor:
            widths.append(hidden.shape[2])
            return hidden.clone()

        plain = self._model.logits(context[_CLEAN], _rest(context))
        same = self._with(itself, context)
        other = self._with(lambda hidden: hidden.masked_fill(context[_FREE], torch.nan), context)
        if not plain.isfinite().all():
            return widths[0]  # the preflight says it better
        gap = float((same - plain).abs().max() / plain.abs().max().clamp_min(0.1))
        if not gap <= _SAME:
            raise ModelError(
                f"LatentBall: with the output of {self._called!r} put in place of itself, the outputs of {self.name} differ "
                f"by {gap:.2g} of their size, so an attack would be on another model than yours; name another submodule"
            )
        if torch.equal(other, plain):
            raise ModelError(
                f"LatentBall: nothing of what {self._called!r} returns for the words of a text reaches the outputs of "
                f"{self.name}, so every text would survive; name a submodule before it (after the last layer, many models "
                "read a special token only)"
            )
        return widths[0]

    def _with(self, change: Any, context: dict[str, Tensor]) -> Tensor:
        """Logits with ``change`` made to the hidden states."""
        calls: list[Tensor] = []

        def after(_: object, __: object, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) and output else output
            calls.append(self._fitting(hidden, context[_CLEAN].shape))
            changed = change(hidden)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        with self._hooked(after):
            logits = self._model.logits(context[_CLEAN], _rest(context))
        if len(calls) != 1:
            raise ModelError(
                f"LatentBall: the forward pass of {self.name} calls {self._called!r} {len(calls)} times, where once is "
                "needed; name a submodule that is called as a module, once a pass, such as a layer"
            )
        return logits

    def _fitting(self, hidden: object, embedded: torch.Size) -> Tensor:
        if (
            not isinstance(hidden, Tensor)
            or not hidden.is_floating_point()
            or hidden.shape[:2] != embedded[:2]
            or hidden.ndim != 3
        ):
            found = f"shape {tuple(hidden.shape)}" if isinstance(hidden, Tensor) else f"a {type(hidden).__name__}"
            raise ModelError(
                f"LatentBall: {self._called!r} returns {found}, where {tuple(embedded[:2])} vectors of floats are needed, "
                "one per token; name a submodule that returns these, such as a layer of the encoder"
            )
        return hidden

    @contextmanager
    def _hooked(self, after: Any) -> Iterator[None]:
        handle = self._module.register_forward_hook(after)
        try:
            with uncompiled():
                yield
        finally:
            handle.remove()


def _rest(context: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in context.items() if name not in (_CLEAN, _FREE)}
