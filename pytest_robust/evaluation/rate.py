"""A proportion that knows its counts, and reads well in a failed assert."""

from __future__ import annotations

from typing import SupportsIndex

from scipy.stats import beta


class Rate(float):
    """``k`` of ``n``: a float that carries its counts.

    Attributes:
        k: successes. n: trials. label: what is counted ("robust accuracy"). about: the conditions ("linf 8/255").
    """

    k: int
    n: int
    label: str
    about: str

    def __new__(cls, k: int, n: int, label: str = "accuracy", about: str = "") -> Rate:
        """Raises ValueError unless 0 <= k <= n and n > 0."""
        if not 0 <= k <= n or n == 0:
            raise ValueError(f"a rate needs 0 <= k <= n and n > 0, got k={k}, n={n}")
        self = super().__new__(cls, k / n)
        self.k, self.n, self.label, self.about = k, n, label, about
        return self

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided Clopper-Pearson interval (Biometrika 26, 1934): exact, never too narrow."""
        tail = (1 - confidence) / 2
        low = 0.0 if self.k == 0 else float(beta.ppf(tail, self.k, self.n - self.k + 1))
        high = 1.0 if self.k == self.n else float(beta.ppf(1 - tail, self.k + 1, self.n - self.k))
        return low, high

    def describe(self) -> str:
        """``robust accuracy 31.2%`` and in brackets the conditions, n and the 95 % interval."""
        low, high = self.interval()
        about = f"{self.about}, " if self.about else ""
        return f"({about}n={self.n}, 95% CI {100 * low:.1f}-{100 * high:.1f})"

    def __str__(self) -> str:
        return f"{100 * float(self):.1f}%"

    def __repr__(self) -> str:
        return f"{self.label} {self} {self.describe()}"

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[Rate], tuple[int, int, str, str]]:
        return type(self), (self.k, self.n, self.label, self.about)
