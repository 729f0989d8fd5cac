"""What an evaluation may find from before, and leave behind: whoever keeps it implements this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pytest_robust.evaluation.result import Evaluation

Arrays = dict[str, npt.NDArray[Any]]
Kept = tuple[dict[str, Any], Arrays]
"""Plain JSON values, and arrays."""
SIGN = "sign."
"""Of what is kept, the arrays by which the model is known again."""
_SAME = 1e-3
"""Difference, as a share of the spread, that another batch or machine makes at most."""


class Memory(Protocol):
    """Finished and unfinished checks by key, and adversarial examples by content id.

    A key is a digest of all that an outcome depends on. What cannot be read is as if it were not there; nothing raises.
    """

    def finished(self, key: str) -> tuple[Evaluation, Arrays] | None:
        """The check of this key, and the sign that its model was known by."""
        ...

    def finish(self, key: str, evaluation: Evaluation, sign: Arrays) -> None: ...

    def progress(self, key: str) -> Kept | None:
        """How far the check came when it was interrupted."""
        ...

    def keep(self, key: str, content: Mapping[str, Any], arrays: Arrays) -> None: ...

    def known(self, norm: str, space: str, ids: Sequence[str]) -> Mapping[str, list[Tensor]]:
        """Adversarial examples found before, by content id: points in this space, for threats of this norm."""
        ...


When = Literal["first", "last"]


@dataclass(frozen=True)
class Past:
    """What a memory holds for one check.

    Attributes:
        key: of the check; None: it cannot be found again. sign: by which its model is known again.
        replay: when the adversarial examples found before are tried.
        merging: the memory holds what all shards came to, and nothing may be begun anew.
    """

    memory: Memory
    key: str | None
    sign: Arrays
    replay: When
    merging: bool = False

    def finished(self) -> Evaluation | None:
        """The check, where it was finished before, on a model that acts the same."""
        found = None if self.key is None else self.memory.finished(self.key)
        return found[0] if found is not None and same_sign(found[1], self.sign) else None

    def finish(self, evaluation: Evaluation) -> None:
        """Keep the finished check."""
        if self.key is not None:
            self.memory.finish(self.key, evaluation, self.sign)


def pack(tensors: Mapping[int, Tensor]) -> Arrays:
    """Tensors by row as few arrays: those of one shape and type together."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for row, tensor in sorted(tensors.items()):
        alike.setdefault((tensor.dtype, *tensor.shape), []).append(row)
    arrays: Arrays = {}
    for number, rows in enumerate(alike.values()):
        arrays[f"rows.{number}"] = np.array(rows, dtype=np.int64)
        arrays[f"points.{number}"] = np.stack([tensors[row].numpy() for row in rows])
    return arrays


def unpack(arrays: Arrays) -> dict[int, Tensor]:
    """What ``pack`` was given; other arrays may be among them."""
    found: dict[int, Tensor] = {}
    for number, rows in under("rows.", arrays).items():
        points = arrays[f"points.{number}"]
        found |= {int(row): torch.from_numpy(point) for row, point in zip(rows, points, strict=True)}
    return dict(sorted(found.items()))


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays under names that begin so, to be kept among others; ``under`` finds them again."""
    return {prefix + name: array for name, array in arrays.items()}


def under(prefix: str, arrays: Arrays) -> Arrays:
    """What ``prefixed`` was given."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def same_sign(one: Arrays, other: Arrays) -> bool:
    """Whether both are of one model, as far as a few examples tell."""
    return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)


def _close(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.shape != b.shape:
        return False
    spread = float(np.ptp(a)) or 1.0
    return bool(np.allclose(a, b, rtol=_SAME, atol=_SAME * spread, equal_nan=True))
