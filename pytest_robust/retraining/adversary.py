"""Adversarial inputs for a training loop of the user's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_robust.errors import ModelError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.prepare import under
from pytest_robust.models import Normalize, adapt
from pytest_robust.models.protocol import Batch
from pytest_robust.objectives import Objective, Untargeted
from pytest_robust.retraining.crafting import craft
from pytest_robust.retraining.feeding import keys_of
from pytest_robust.retraining.recipe import method_for
from pytest_robust.threats import Threat


class Adversary:
    """Moves each batch of a training loop to where the model is worst, within a threat: for Lightning, Accelerate, or any
    loop by hand. The model stays in its mode, and no gradient of its parameters is touched.
    """

    def __init__(
        self,
        model: Any,
        threat: Threat,
        *,
        method: str = "auto",
        objective: Objective | None = None,
        normalize: Normalize | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            model: the torch module in training; of one wrapped for several devices, the module inside. threat: of inputs.
            method: one of ``METHODS``, whose attack is used. normalize: see ``evaluate``. seed: of random starts.

        Raises:
            ModelError: a model of texts, whose embeddings are moved and no inputs. ThreatError: no threat for this model.
            ValueError: no such method.
        """
        adapted = adapt(model, normalize=normalize)
        if adapted.space != "input":
            raise ModelError(f"{adapted.name} reads texts, and an Adversary moves inputs; use retrain()")
        self._adapted, self._threat, self._objective = adapted, threat, objective or Untargeted()
        self._attack, self._seed, self._step = method_for(method, threat)[1].attack, seed, 0
        under(adapted, threat)
        self.passes = Passes(adapted, 2**31)

    def __call__(self, inputs: Tensor, labels: Tensor, share: float = 1.0) -> Tensor:
        """(B, ...) adversarial inputs for (B, ...) inputs and (B,) labels, detached, on the model's device.

        Args:
            share: of the budget: let it rise from 0 over the first third of a training.
        """
        device = self._adapted.device
        keys = keys_of(self._seed, self._step, len(inputs), device)
        self._step += 1
        with self._adapted.isolated():
            batch: Batch = self._adapted.batch(inputs)
            return craft(
                self.passes, batch, labels.to(device), self._threat, self._objective, self._attack, keys, share=share
            ).x
