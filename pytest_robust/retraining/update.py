"""One update of the weights: points to train on, the loss at them, and a step of the optimizer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_robust.evaluation.passes import Passes
from pytest_robust.models.protocol import Model
from pytest_robust.objectives import Objective
from pytest_robust.retraining import spread
from pytest_robust.retraining.crafting import begun, craft
from pytest_robust.retraining.feeding import Part
from pytest_robust.retraining.outer import OUTERS, Loss
from pytest_robust.retraining.recipe import Method, Recipe
from pytest_robust.retraining.states import random_state, set_random_state
from pytest_robust.retraining.weights import perturbed
from pytest_robust.threats import Threat


@dataclass
class Updater:
    """Moves the weights of a model by one batch at a time.

    Attributes:
        adapted: the model. view: the same as the threat moves its point. module: what is trained; in training mode outside
            of ``isolated()``. method: how; it may be exchanged. loss: the usual one, of logits and labels, (B,).
        passes: counts them, those of the update too.
    """

    adapted: Model
    view: Model
    module: nn.Module
    threat: Threat
    objective: Objective
    recipe: Recipe
    method: Method
    loss: Loss
    optimizer: torch.optim.Optimizer
    passes: Passes

    def update(self, part: Part, keys: Tensor, share: float) -> Tensor:
        """Train on one batch; () the mean loss, before the update.

        Args:
            keys: (B,) int64, of random numbers. share: of the budget.
        """
        return (self._replayed if self.method.replays else self._crafted)(part, keys, share)

    def _crafted(self, part: Part, keys: Tensor, share: float) -> Tensor:
        with self.adapted.isolated():
            crafted = craft(
                self.passes, part.batch, part.hard, self.threat, self.objective, self.method.attack, keys, share=share
            )
        self.optimizer.zero_grad(set_to_none=True)
        if self.recipe.awp:
            statistics = [buffer.clone() for buffer in self.module.buffers()]
            self._at(part, crafted.x).backward()
            for buffer, before in zip(self.module.buffers(), statistics, strict=True):
                buffer.copy_(before)  # this pass is for the direction alone
            spread.average_gradients(self.module)
            gradients = {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}
            self.optimizer.zero_grad(set_to_none=True)
            with perturbed(self.module, self.recipe.awp, gradients):
                loss = self._at(part, crafted.x)
                loss.backward()
        else:
            loss = self._at(part, crafted.x)
            loss.backward()
        spread.average_gradients(self.module)
        self.optimizer.step()
        return loss.detach()

    def _replayed(self, part: Part, keys: Tensor, share: float) -> Tensor:
        """Every backward pass serves the point and the weights (Shafahi et al., "Adversarial training for free!", NeurIPS
        2019, algorithm 1; with gradients added up instead, FreeLB, Zhu et al., ICLR 2020, algorithm 1).
        """
        attack, method = self.method.attack, self.method
        live = begun(part.batch, part.hard, self.threat, self.objective, attack, keys, share)
        first, dropout = torch.zeros(()), random_state()
        self.optimizer.zero_grad(set_to_none=True)
        for number in range(method.replays):
            if method.accumulate:
                set_random_state(dropout)  # one network per batch: the same units are dropped at each step
            live.x = live.x.detach().requires_grad_()
            loss = self._at(part, live.x)
            (loss / method.replays if method.accumulate else loss).backward()
            first = loss.detach() if number == 0 else first
            grad = torch.zeros_like(live.x) if live.x.grad is None else live.x.grad
            live.x = live.x.detach()
            attack.update(self.threat, live, torch.zeros(len(live.x), device=live.x.device), grad)
            live.step = live.step + 1
            if not method.accumulate or number == method.replays - 1:
                spread.average_gradients(self.module)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        return first

    def _at(self, part: Part, x: Tensor) -> Tensor:
        """() the mean loss of the weights at these points."""
        outer, context = OUTERS[self.method.outer], part.batch.context
        with torch.enable_grad(), self._roughly():
            adversarial = self.view.logits(x, context)
            clean = self.view.logits(part.batch.x, context) if outer.needs_clean else adversarial.detach()
        looks = 1 + outer.needs_clean
        self.passes.forward += looks * len(x)
        self.passes.backward += looks * len(x)
        return outer.loss(clean.float(), adversarial.float(), part.labels, self.loss, self.recipe.beta).mean()

    def _roughly(self) -> AbstractContextManager[None]:
        kind = self.view.device.type
        return torch.autocast(kind, torch.bfloat16) if self.recipe.autocast else nullcontext()
