"""Attacks with one mistake each, as one may well make it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pytest_robust.attacks import PGD
from pytest_robust.errors import ThreatError


@dataclass(frozen=True)
class OnlyLinf(PGD):
    """No mistake: it is for one norm and says so."""

    def begin(self, threat, live):
        if threat.norm != "linf":
            raise ThreatError(f"only-linf is an attack for linf, not for {threat.norm}")
        super().begin(threat, live)


class ForNothing(OnlyLinf):
    def begin(self, threat, live):
        raise ThreatError("not today")


class Identity(PGD):
    """It stays where it is."""

    def begin(self, threat, live):
        live.x = live.region.origin

    def update(self, threat, live, loss, grad):
        pass


class LeavesTheBall(PGD):
    """The projection is forgotten."""

    def update(self, threat, live, loss, grad):
        live.x = (live.x + live.rows(live.region.radius[:, 0]) * grad.sign()).clamp(0, 1)


class LeavesTheBox(PGD):
    """The ball is kept, the box forgotten."""

    def update(self, threat, live, loss, grad):
        shape = live.x.shape
        direction = grad / grad.flatten(1).abs().sum(1).clamp(min=1e-12).view(-1, *[1] * (len(shape) - 1))
        live.x = live.region.origin + live.rows(live.region.radius[:, 0]) * direction


class AbsoluteStep(PGD):
    """Steps of 1/255 whatever the budget: made for images in [0, 1], and the last point counts."""

    def begin(self, threat, live):
        live.x = live.region.origin

    def update(self, threat, live, loss, grad):
        live.x = threat.project(live.x + grad.sign() / 255, live.region)


class Neighbourly(PGD):
    """Gradients are normalised by the largest one of the batch."""

    def update(self, threat, live, loss, grad):
        step = grad / grad.abs().max().clamp(min=1e-12)
        live.x = threat.project(live.x + 0.2 * live.rows(live.region.radius[:, 0]) * step, live.region)


class GlobalRandomness(PGD):
    """It starts at a point of torch's own generator."""

    def begin(self, threat, live):
        radius = live.rows(live.region.radius[:, 0])
        live.x = threat.project(live.region.origin + radius * (2 * torch.rand_like(live.x) - 1), live.region)


class ScaleOfLogits(PGD):
    """The step grows with the logits."""

    def update(self, threat, live, loss, grad):
        size = (0.1 * live.scale / 10).clamp(max=1.0).to(grad.dtype)
        live.x = threat.step(live.x, grad, size, live.region)


class InPlace(PGD):
    """It starts at the clean points, and moves these."""

    def begin(self, threat, live):
        live.x = live.region.origin

    def update(self, threat, live, loss, grad):
        live.x += 0.2 * live.rows(live.region.radius[:, 0]) * grad.sign()
        live.x.clamp_(0, 1)


class Raises(PGD):
    def update(self, threat, live, loss, grad):
        raise ZeroDivisionError("the step of nothing")
