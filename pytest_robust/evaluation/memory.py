"""What an evaluation may find from before, and leave behind: whoever keeps it implements this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pytest_robust.evaluation.result import Evaluation

Arrays = dict[str, npt.NDArray[Any]]
Kept = tuple[dict[str, Any], Arrays]
"""Plain JSON values, and arrays."""


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


def pack(tensors: Mapping[int, Tensor], prefix: str = "") -> Arrays:
    """Tensors by row as few arrays: those of one shape and type together."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for row, tensor in sorted(tensors.items()):
        alike.setdefault((tensor.dtype, *tensor.shape), []).append(row)
    arrays: Arrays = {}
    for number, rows in enumerate(alike.values()):
        arrays[f"{prefix}rows.{number}"] = np.array(rows, dtype=np.int64)
        arrays[f"{prefix}points.{number}"] = np.stack([tensors[row].numpy() for row in rows])
    return arrays


def unpack(arrays: Arrays, prefix: str = "") -> dict[int, Tensor]:
    """What ``pack`` was given."""
    found: dict[int, Tensor] = {}
    for name in arrays:
        if name.startswith(f"{prefix}rows."):
            points = arrays[f"{prefix}points.{name.removeprefix(f'{prefix}rows.')}"]
            found |= {int(row): torch.from_numpy(point) for row, point in zip(arrays[name], points, strict=True)}
    return dict(sorted(found.items()))
