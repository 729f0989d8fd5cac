"""A proportion that knows its counts, and reads well in a failed assert."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

from scipy.stats import beta

from pytest_robust.errors import EvidenceError
from pytest_robust.evaluation.sequential import Sample


def _guarded(operation: Callable[[Any, Any], float]) -> tuple[Callable[[Any, Any], float], Callable[[Any, Any], float]]:
    """The methods for a rate on the left and on the right of an operation."""

    def on_the_left(rate: Rate, other: Any) -> float:
        return operation(rate._known(), other._known() if isinstance(other, Rate) else other)

    def on_the_right(rate: Rate, other: Any) -> float:
        return operation(other, rate._known())

    return on_the_left, on_the_right


class Rate(float):
    """``k`` of ``n``: a float that carries its counts, and refuses a comparison that they cannot answer.

    Attributes:
        k: successes. n: trials. label: what is counted ("robust accuracy"). about: the conditions ("linf 8/255").
        span: lowest and highest count still possible, where not every example was decided; (k, k) where all were.
        sample: where it is an estimate, what it rests on; the span then holds with the confidence of the sample.
        doubt: why the count is no evidence, where the evaluation is invalid; attacks that could not work leave it too high.
    """

    k: int
    n: int
    label: str
    about: str
    span: tuple[int, int]
    doubt: str | None
    sample: Sample | None
    __array_priority__ = -1.0
    """Above NumPy's scalars, which would compare the bare figure in ``numpy.float64(0.6) <= rate``; below its arrays, whose
    arithmetic with a rate stays theirs."""

    def __new__(
        cls,
        k: int,
        n: int,
        label: str = "accuracy",
        about: str = "",
        span: tuple[int, int] | None = None,
        doubt: str | None = None,
        sample: Sample | None = None,
    ) -> Rate:
        """Raises ValueError unless 0 <= k <= n and n > 0."""
        if not 0 <= k <= n or n == 0:
            raise ValueError(f"a rate needs 0 <= k <= n and n > 0, got k={k}, n={n}")
        self = super().__new__(cls, k / n)
        self.k, self.n, self.label, self.about, self.doubt, self.sample = k, n, label, about, doubt, sample
        self.span = (sample.least, sample.most) if sample is not None else span or (k, k)
        return self

    def __lt__(self, other: Any) -> bool:
        return self._answer(operator.lt, other)

    def __le__(self, other: Any) -> bool:
        return self._answer(operator.le, other)

    def __gt__(self, other: Any) -> bool:
        return self._answer(operator.gt, other)

    def __ge__(self, other: Any) -> bool:
        return self._answer(operator.ge, other)

    __add__, __radd__ = _guarded(operator.add)
    __sub__, __rsub__ = _guarded(operator.sub)
    __mul__, __rmul__ = _guarded(operator.mul)
    __truediv__, __rtruediv__ = _guarded(operator.truediv)

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
        if self.sample is not None:
            sure = f"{100 * self.sample.confidence:g}% sure of {100 * least / self.n:.1f}-{100 * most / self.n:.1f}"
            return f"({about}n={self.n}, {sure} from {self.sample.drawn} drawn)"
        if least < most:
            side = "at most" if self.k == most else "at least"
            return f"({about}n={self.n}, {side}: decided on {self.n - (most - least)} of {self.n})"
        low, high = self.interval()
        return f"({about}n={self.n}, 95% CI {100 * low:.1f}-{100 * high:.1f})"

    def _known(self) -> float:
        """The figure, to be reckoned with: a drop or a ratio will be compared without its counts.

        Raises:
            EvidenceError: it is a bound, or not to be believed.
        """
        if len(self._ends) > 1 or self.doubt is not None:
            why = f"not evidence: {self.doubt}" if self.doubt else "not decided"
            raise EvidenceError(f"{why}: no figure follows from {self!r}; float(...) gives the bare one")
        return float(self)

    def _answer(self, compare: Callable[[Any, Any], bool], other: Any) -> bool:
        """The answer for every count that is still possible.

        Raises:
            EvidenceError: they do not agree; or the side found to be the greater is not to be believed.
        """
        theirs = other._ends if isinstance(other, Rate) else (other,)
        answers = [compare(mine, end) for mine in self._ends for end in theirs]
        if any(answers) and not all(answers):
            raise EvidenceError(
                f"not decided: {self!r} cannot be compared with {other!r}, for what is undecided may lie on either side; to "
                "decide every example leave min_accuracy out, or use profile='release'"
            )
        greater = self if compare in (operator.gt, operator.ge) else other
        if answers[0] and isinstance(greater, Rate) and greater.doubt is not None:
            figure = ", ".join(filter(None, (f"{greater.label} {greater}", greater.about)))
            raise EvidenceError(f"not evidence: {greater.doubt} ({figure})")
        return answers[0]

    @property
    def _ends(self) -> tuple[float, ...]:
        """The lowest and the highest rate still possible."""
        return tuple(count / self.n for count in dict.fromkeys(self.span))

    def __str__(self) -> str:
        return f"{100 * float(self):.1f}%"

    def __repr__(self) -> str:
        return f"{self.label} {self} {self.describe()}"

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[Rate], tuple[Any, ...]]:
        return type(self), (self.k, self.n, self.label, self.about, self.span, self.doubt, self.sample)
