"""Budgets and floors as users type them: exact, and shown as typed. No torch here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

Number = int | float | str | Fraction

_LARGEST_EXPONENT = 400
"""More than a float has, either way, and little work to make exact."""


def exact(value: Number) -> Fraction:
    """Read a number as typed: ``0.4`` is 2/5, ``"8/255"`` is 8/255, ``"0.5/255"`` is 1/510, ``"40%"`` is 2/5.

    Raises:
        ValueError: not a finite number, or one too large or too small for a float.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    text = str(value).strip()
    percent = text.endswith("%")
    text = text.removesuffix("%").replace(" ", "")
    _, _, exponent = text.lower().partition("e")
    try:
        # Before it is made exact: "1e999999999" and "1e-999999999" would take all memory.
        if exponent and abs(int(exponent)) > _LARGEST_EXPONENT:
            raise OverflowError
        # str() of a float is the shortest text that reads back equal: 0.4 is 2/5, as the user typed it.
        above, _, below = text.partition("/")
        number = Fraction(above) / Fraction(int(below) if "/" in text else 1) / (100 if percent else 1)
        if number and not float(number):
            raise OverflowError
    except OverflowError:
        raise ValueError(f"{value!r} is too large or too small; write it like 0.03, '8/255' or '40%'") from None
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is not a number; write it like 0.03, '8/255' or '40%'") from None
    return number


@dataclass(frozen=True)
class Budget:
    """A perturbation budget: its exact value, and the text the user typed for it.

    Two budgets are equal when their values are, however they were typed.
    """

    value: Fraction
    text: str = field(compare=False)

    @classmethod
    def parse(cls, eps: Number | Budget) -> Budget:
        """Read ``8/255``, ``"0.03"``, ``0.5`` or a ``Budget``.

        Raises:
            ValueError: not a number, negative, too large or too small.
        """
        if isinstance(eps, Budget):
            return eps
        try:
            value = exact(eps)
        except ValueError as error:
            raise ValueError(f"eps: {error}") from None
        if value < 0:
            raise ValueError(f"eps must not be negative, got {eps!r}")
        return cls(value, str(eps).strip().replace(" ", ""))

    def part(self, share: Fraction) -> Budget:
        """A share of this budget, exact, in the way this one was typed: one half of ``5/255`` is ``2.5/255``."""
        value = self.value * share
        text = self._text(value, Context(prec=28))
        return Budget(value, text if exact(text) == value else str(value))

    def at_most(self, size: float) -> str:
        """A size within this budget, rounded up to two digits, in the way this one was typed: ``0.91/255``."""
        value = Fraction(size)
        digits = len(str(int(value * self._denominator)))
        text = self._text(value, Context(prec=max(2, digits), rounding=ROUND_CEILING))
        return text if exact(text) <= self.value else self.text

    def _text(self, value: Fraction, context: Context) -> str:
        scaled = value * self._denominator
        number = context.divide(Decimal(scaled.numerator), Decimal(scaled.denominator))
        written = format(number.normalize(context), "f")
        return written if self._denominator == 1 else f"{written}/{self._denominator}"

    @property
    def _denominator(self) -> int:
        """255 of ``8/255``; 1 where no fraction was typed."""
        fraction = re.fullmatch(r"[\d.]+/(\d+)", self.text)
        return 1 if fraction is None else int(fraction.group(1))

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return self.text


def parse_confidence(value: Number) -> float:
    """Read a confidence such as ``0.99`` or ``"99%"``.

    Raises:
        ValueError: not a number above one half and below 1; 0.01 is answered with "did you mean 0.99".
    """
    confidence = exact(value)
    if not Fraction(1, 2) < confidence < 1:
        meant = {0 < confidence <= Fraction(1, 2): 1 - confidence, 1 < confidence < 100: confidence / 100}.get(True)
        hint = f"; did you mean {float(meant):g}?" if meant else ""
        raise ValueError(f"a confidence lies between 0.5 and 1, got {value!r}{hint}")
    return float(confidence)


def parse_floor(value: Number) -> Fraction:
    """Read an accuracy floor in [0, 1]: ``0.4``, ``"40%"``, ``"2/5"``.

    Raises:
        ValueError: not a number in [0, 1]; 40 is answered with "did you mean 40%".
    """
    floor = exact(value)
    if not 0 <= floor <= 1:
        hint = f"; did you mean '{value}%'?" if 1 < floor <= 100 else ""
        raise ValueError(f"an accuracy floor lies in [0, 1], got {value!r}{hint}")
    return floor


def parse_margin(value: Number) -> float:
    """Read a drop of accuracy that would be too much: ``0.02``, ``"2%"``, ``"2pt"``, ``"2 pt"``.

    Raises:
        ValueError: not a number above 0 and below 1; 2 is answered with "did you mean 2pt".
    """
    typed = str(value).strip()
    margin = exact(typed.removesuffix("pt") + "%" if typed.endswith("pt") else value)
    if margin == 0:
        raise ValueError("a margin is above 0: no number of examples can show that nothing at all was lost")
    if not 0 < margin < 1:
        hint = f"; did you mean '{value}pt'?" if 1 <= margin < 100 else ""
        raise ValueError(f"a margin lies between 0 and 1, got {value!r}{hint}")
    return float(margin)
