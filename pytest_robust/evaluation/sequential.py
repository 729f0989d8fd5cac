"""How many of a finite set are robust, from a sample that may grow until the answer is clear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln


@dataclass(frozen=True)
class Sample:
    """What a sample says about the whole set.

    Attributes:
        drawn: examples attacked. survived: of these, robust. total: those that could have been drawn.
        confidence: with which at least ``least`` and at most ``most`` of ``total`` are robust.
    """

    drawn: int
    survived: int
    total: int
    confidence: float
    least: int
    most: int

    @property
    def estimate(self) -> int:
        """How many of the whole set are robust, as the share in the sample has it."""
        return min(self.most, max(self.least, round(self.total * self.survived / self.drawn)))


@dataclass(frozen=True)
class ConfidenceSequence:
    """Which counts in a finite set are still believable, whenever one looks: the prior-posterior-ratio sequence.

    Drawn without replacement in a fixed random order, with probability at least ``confidence`` the true count lies in the
    interval at every size of the sample at once, so stopping when the answer is clear costs no validity (Waudby-Smith and
    Ramdas, "Confidence sequences for sampling without replacement", NeurIPS 2020, section 2).

    Attributes:
        total: size of the set. confidence: in (0, 1), of the whole sequence.
    """

    total: int
    confidence: float

    def interval(self, successes: int, drawn: int) -> tuple[int, int]:
        """The least and the largest count in the whole set, after so many successes among so many drawn.

        Raises:
            ValueError: counts that cannot be.
        """
        if not 0 <= successes <= drawn <= self.total:
            raise ValueError(f"{successes} successes among {drawn} of {self.total} cannot be")
        counts = np.arange(successes, self.total - (drawn - successes) + 1)
        # The prior holds every rate for equally likely: any prior is valid, and this one needs few examples at all of them.
        prior = _log_beta_binomial(counts, self.total, 1, 1)
        posterior = _log_beta_binomial(counts - successes, self.total - drawn, 1 + successes, 1 + drawn - successes)
        kept = counts[prior - posterior < -math.log1p(-self.confidence)]
        return int(kept.min()), int(kept.max())


def _log_beta_binomial(k: npt.NDArray[np.int64], n: int, a: float, b: float) -> npt.NDArray[np.float64]:
    """Logarithm of the beta-binomial probability of each count ``k`` out of ``n``."""
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    result: npt.NDArray[np.float64] = ways + betaln(k + a, n - k + b) - betaln(a, b)
    return result
