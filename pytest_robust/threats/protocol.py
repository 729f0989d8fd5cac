"""What the engine asks of a threat."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from pytest_robust.budget import Budget, Number
from pytest_robust.threats.region import Region, Terrain
from pytest_robust.threats.summary import ThreatSummary


class Threat(Protocol):
    """A set of allowed perturbations that can start, step, project, and judge membership.

    Points are (B, ...) tensors in the model's space; what each example may do is in its ``Region``.
    """

    @property
    def norm(self) -> str: ...
    @property
    def space(self) -> str:
        """The space of the points: ``"input"`` or ``"embedding"``, that of the models this threat is for; or
        ``"transform"``: parameters of a transform through which a model of inputs is seen; or ``"text"``: edits, through
        which a model of texts is seen; or ``"hidden states after ..."``: what a submodule of a model of texts returns.
        """
        ...

    @property
    def terrain(self) -> Terrain:
        """What a search has to deal with: ``"smooth"``: as many numbers as the input has, moved by small steps; ``"few"``: a
        few numbers, such as the parameters of a transform; ``"single"``: one place to go, and nothing between; ``"edits"``:
        switches, of texts.
        """
        ...

    @property
    def budget(self) -> Budget: ...
    def with_eps(self, eps: Number | Budget) -> Threat:
        """The same threat with another budget."""
        ...

    def summary(self) -> ThreatSummary: ...
    def origin(self, inputs: Tensor) -> Tensor:
        """(B, ...) the points at which unchanged inputs (B, ...) stand."""
        ...

    def region(self, origin: Tensor, free: Tensor | None = None) -> Region: ...
    def scaled(self, region: Region, by: Tensor) -> Region: ...
    def start(self, region: Region, keys: Tensor) -> Tensor: ...
    def step(self, x: Tensor, grad: Tensor, size: Tensor, region: Region) -> Tensor: ...
    def project(self, x: Tensor, region: Region) -> Tensor: ...
    def maximise(self, grad: Tensor, region: Region) -> Tensor: ...
    def seal(self, x: Tensor, region: Region) -> Tensor: ...
    def contains(self, x: Tensor, region: Region) -> Tensor: ...
    def distance(self, x: Tensor, region: Region) -> Tensor: ...
