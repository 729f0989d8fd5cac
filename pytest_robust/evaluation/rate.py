"""A proportion that knows its counts, and reads well in a failed assert."""

from __future__ import annotations

from typing import SupportsIndex

from scipy.stats import beta


class Rate(float):
    """``k`` of ``n``: a float that carries its counts.

    Attributes:
        k: successes. n: trials. label: what is counted ("robust accuracy"). about: the conditions ("linf 8/255").
        span: lowest and highest count still possible, where not every example was decided; (k, k) where all were.
    """

    k: int
    n: int
    label: str
    about: str
    span: tuple[int, int]

    def __new__(cls, k: int, n: int, label: str = "accuracy", about: str = "", span: tuple[int, int] | None = None) -> Rate:
        """Raises ValueError unless 0 <= k <= n and n > 0."""
        if not 0 <= k <= n or n == 0:
            raise ValueError(f"a rate needs 0 <= k <= n and n > 0, got k={k}, n={n}")
        self = super().__new__(cls, k / n)
        self.k, self.n, self.label, self.about, self.span = k, n, label, about, span or (k, k)
        return self

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided Clopper-Pearson interval (Biometrika 26, 1934): exact, never too narrow.

        Where examples are undecided it reaches from that of the lowest to that of the highest possible count.

        Raises:
            ValueError: confidence is no probability between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence lies between 0 and 1, got {confidence!r}; 95 % is 0.95")
        tail, (least, most) = (1 - confidence) / 2, self.span
        low = 0.0 if least == 0 else float(beta.ppf(tail, least, self.n - least + 1))
        high = 1.0 if most == self.n else float(beta.ppf(1 - tail, most + 1, self.n - most))
        return low, high

    def describe(self) -> str:
        """In brackets the conditions, n, and the 95 % interval or that it is a bound: ``(linf 8/255, n=1000, ...)``."""
        about = f"{self.about}, " if self.about else ""
        least, most = self.span
        if least < most:
            side = "at most" if self.k == most else "at least"
            return f"({about}n={self.n}, {side}: decided on {self.n - (most - least)} of {self.n})"
        low, high = self.interval()
        return f"({about}n={self.n}, 95% CI {100 * low:.1f}-{100 * high:.1f})"

    def __str__(self) -> str:
        return f"{100 * float(self):.1f}%"

    def __repr__(self) -> str:
        return f"{self.label} {self} {self.describe()}"

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[Rate], tuple[int, int, str, str, tuple[int, int]]]:
        return type(self), (self.k, self.n, self.label, self.about, self.span)
