"""Budgets and floors as users type them: exact, and shown as typed. No torch here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

Number = int | float | str | Fraction

UNITS = {"%norm": Fraction(1, 100), "norm": Fraction(1), "nn": Fraction(1)}
"""Endings of budgets in units of a model's token embeddings, and what 1 of them is of the unit; see ``Budget.unit``."""
_TYPOS = "typo:"
_DIGITS = Context(prec=4, rounding=ROUND_FLOOR)
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

    Two budgets are equal when their values and units are, however they were typed.

    Attributes:
        unit: what the value is a number of: ``"norm"``: median norms of a model's token embeddings; ``"nn"``: halves of
            their median distance to the nearest other one; ``"typo"``: random typing errors in a text. None: the model's
            own numbers. A budget in a unit has a size only once a model is there, see ``measured``.
    """

    value: Fraction
    text: str = field(compare=False)
    unit: str | None = None

    @classmethod
    def parse(cls, eps: Number | Budget) -> Budget:
        """Read ``8/255``, ``"0.03"``, ``0.5``, or for text ``"2%norm"``, ``"0.5nn"``, ``"typo:1"``; or a ``Budget``.

        Raises:
            ValueError: not a number, negative, too large or too small.
        """
        if isinstance(eps, Budget):
            return eps
        text = str(eps).strip().replace(" ", "")
        ending = next((unit for unit in UNITS if text.endswith(unit)), "")
        try:
            if text.startswith(_TYPOS):
                return cls(_whole(text.removeprefix(_TYPOS)), text, "typo")
            # "nn" by itself is one of it.
            value = exact((text.removesuffix(ending) or "1") if ending == "nn" else text.removesuffix(ending) or eps)
        except ValueError as error:
            raise ValueError(f"eps: {error}") from None
        if value < 0:
            raise ValueError(f"eps must not be negative, got {eps!r}")
        return cls(value * UNITS[ending], text, ending.lstrip("%")) if ending else cls(value, text)

    def measured(self, radius: float) -> Budget:
        """This budget as the radius that a model makes of it, rounded down to four digits: what is shown is what is used."""
        return Budget(Fraction(_DIGITS.create_decimal(repr(float(radius)))), self.text)

    @property
    def shown(self) -> str:
        """As typed, and with the radius where a model made it one: ``2%norm (0.02236)``."""
        is_measured = self.unit is None and Budget.parse(self.text).unit is not None
        return f"{self.text} ({float(self.value):.4g})" if is_measured else self.text

    @property
    def is_of_pixels(self) -> bool:
        """Whether it was typed as one of the 255 steps of a pixel: ``8/255``."""
        return self._denominator == 255

    def is_that(self, other: Budget) -> bool:
        """Whether both are one budget: equal as floats are, or typed alike where a model made one of them a radius."""
        return (self.unit == other.unit and float(self) == float(other)) or self.text == other.text

    def part(self, share: Fraction) -> Budget:
        """A share of this budget, exact, in the way this one was typed: one half of ``5/255`` is ``2.5/255``."""
        if self.unit == "typo":
            raise ValueError(f"{self} has no parts: how much typing errors do is measured for each number of them")
        value = self.value * share
        ending = self.unit or ""
        text = self._text(value, Context(prec=28))
        return Budget(value, f"{text if exact(text) == value else value}{ending}", self.unit)

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


def _whole(text: str) -> Fraction:
    """Raises ValueError for what is no whole number above 0."""
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise ValueError(f"'typo:{text}' is no number of typing errors; write it like 'typo:1'")
    return Fraction(int(text))


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
