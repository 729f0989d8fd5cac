"""Balls around the hidden states inside a text model."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_robust.errors import ThreatError
from pytest_robust.threats.embedding import EmbeddingBall


@dataclass(frozen=True, eq=False)
class LatentBall(EmbeddingBall):
    """All hidden states within ``eps`` of those that a submodule gives for the text, padding and special tokens fixed.

    No text leads there: it is a stress test of what comes after the submodule, as in latent adversarial training (Casper et
    al., "Defending against unforeseen failure modes", 2024; Sheshadri et al., "Latent adversarial training", 2024).

    Attributes:
        eps: the radius: in the units of the hidden states; or a share, such as ``"10%"``, of the median norm that they have
            at the words of the text.
        module: the name of the submodule, as in ``model.named_modules()``: one that gives a vector per token, once a pass.
        norm, per: as of ``EmbeddingBall``; the norm of a share is this one.

    Raises:
        ThreatError: as of ``EmbeddingBall``, or no name.
    """

    module: str = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.module, str) or not self.module:
            raise ThreatError(f"LatentBall: module={self.module!r} is no name; give one of model.named_modules()")
        # Points of one submodule mean nothing to another.
        object.__setattr__(self, "space", f"hidden states after {self.module}")

    @property
    def is_share(self) -> bool:
        """Whether ``eps`` is a share of the norm of the hidden states."""
        return self.budget.text.strip().endswith("%")
