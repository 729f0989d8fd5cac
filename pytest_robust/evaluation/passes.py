"""Forward and backward passes: counted, and split where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from pytest_robust.models import Randomised
from pytest_robust.models.outputs import is_out_of_memory
from pytest_robust.models.protocol import Model


class Passes:
    """The only way in which an evaluation runs the model.

    Attributes:
        forward, backward: passes so far, one per example and draw. draws: in each pass; 1 unless the model is random.
        random: the model has votes.
        most: examples per pass; halved when memory runs out.
        rough: the type in which gradients may be computed where it is faster, by ``torch.autocast``; None: no other than
            the model's own. Logits without gradients are exact always: they are what claims are verified by.
    """

    def __init__(self, model: Model, most: int, rough: torch.dtype | None = None) -> None:
        self.model = model
        self.most = most
        self.rough = rough
        self.random = isinstance(model, Randomised)
        self.draws = model.draws if isinstance(model, Randomised) else 1
        self.forward = 0
        self.backward = 0

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """(B, C) logits without gradients."""
        with torch.no_grad():
            parts = self._in_parts(x, context, lambda rows, c: (self.model.logits(x[rows], c),))
        self.forward += len(x) * self.draws
        return parts[0]

    def votes(self, x: Tensor, context: dict[str, Tensor], numbers: Sequence[int]) -> Tensor:
        """(len(numbers), C) logits of fresh draws of a random model at one point (1, ...)."""
        assert isinstance(self.model, Randomised), "only a random model has votes"
        with torch.no_grad():
            logits = self.model.votes(x, context, numbers)
        self.forward += len(numbers)
        return logits

    def gradient(
        self, loss: Callable[[Tensor, slice], Tensor], x: Tensor, context: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, C), losses (B,) and the gradient of each loss with respect to its row of ``x``, in its shape.

        Only the gradient with respect to the input is computed; it is zero where the model gives none.

        Args:
            loss: from the logits of some rows, and which rows they are, to their losses.
        """
        backward = 0

        def one(rows: slice, part: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            nonlocal backward
            # A copy: a model may write into its input (under no_grad, or through .data) without being refused.
            point = x[rows].detach().clone().requires_grad_()
            with torch.enable_grad(), torch.autocast(point.device.type, self.rough, enabled=self.rough is not None):
                logits = self.model.logits(point, part)
            with torch.enable_grad():
                losses = loss(logits, rows)
            grad = None
            if losses.requires_grad:
                # A sum, not a mean: one example's gradient must not depend on how many neighbours it has.
                (grad,) = torch.autograd.grad(losses.sum(), point, allow_unused=True)
                backward += len(point)
            return logits.detach(), losses.detach(), torch.zeros_like(point) if grad is None else grad

        logits, losses, grad = self._in_parts(x, context, one)
        self.forward += len(x) * self.draws
        self.backward += backward * self.draws  # there is none through a function of texts
        return logits, losses, grad

    def where(
        self, asking: Tensor | bool, loss: Callable[[Tensor, slice | Tensor], Tensor], x: Tensor, context: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, but for rows that ask for no gradient: these cost no backward pass, and get zeros.

        Args:
            asking: (B,) bool; True: all ask, False: none.
        """
        if asking is True:
            return self.gradient(loss, x, context)
        if asking is False:
            logits = self.logits(x, context)
            return logits, loss(logits, slice(None)), torch.zeros_like(x)
        groups = [mask.nonzero().flatten() for mask in (asking, ~asking)]
        parts = [
            self.where(
                asks,
                lambda logits, part, rows=rows: loss(logits, rows[part]),  # type: ignore[misc]
                x[rows],
                {name: tensor[rows] for name, tensor in context.items()},
            )
            for rows, asks in zip(groups, (True, False), strict=True)
            if len(rows)
        ]
        back = torch.cat(groups).argsort()
        logits, losses, grad = (torch.cat(tensors)[back] for tensors in zip(*parts, strict=True))
        return logits, losses, grad

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """Inside, gradients are exact as well."""
        rough, self.rough = self.rough, None
        try:
            yield
        finally:
            self.rough = rough

    def _in_parts(
        self, x: Tensor, context: dict[str, Tensor], one: Callable[[slice, dict[str, Tensor]], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """``one`` over all rows, at most ``most`` at a time, fewer after memory ran out. Raises when one is too many."""
        done: list[tuple[Tensor, ...]] = []
        start = 0
        while start < len(x):
            rows = slice(start, min(start + self.most, len(x)))
            try:
                done.append(one(rows, {name: tensor[rows] for name, tensor in context.items()}))
            except Exception as error:
                size = rows.stop - rows.start
                if size == 1 or not is_out_of_memory(error):
                    raise
                self.most = size // 2
            else:
                start = rows.stop
                continue
            # Only here has the failed pass let go of its memory.
            if x.device.type == "cuda":
                torch.cuda.empty_cache()
        return done[0] if len(done) == 1 else tuple(torch.cat(parts) for parts in zip(*done, strict=True))
