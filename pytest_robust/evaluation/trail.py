"""What the attacks so far have learnt about each example; the next ones build on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Trail:
    """How close each example came to being broken, and by which way.

    Attributes:
        clean: (n,) margins without attack, as shares of the spread of the logits; negative where the example stands.
    """

    def __init__(self, margins: Tensor, rivals: Tensor) -> None:
        """
        Args:
            margins: (n,) of the clean logits, negative where the example stands. rivals: (n, R), most likely first.
        """
        self.clean: npt.NDArray[np.float64] = margins.double().numpy()
        self._closest = self.clean.copy()
        self._likely = rivals
        self._reach = np.full(tuple(rivals.shape), -np.inf)
        self._order = torch.arange(rivals.shape[1]).expand_as(rivals)

    def came(self, rows: Sequence[int], closest: Sequence[float]) -> None:
        """Runs on these examples came as close as these margins."""
        np.maximum.at(self._closest, np.asarray(rows, dtype=np.int64), np.asarray(closest))

    def reached(self, rows: Sequence[int], places: Sequence[int], losses: Sequence[float]) -> None:
        """One step towards the rivals at these places of the order came so far."""
        at = np.asarray(rows, dtype=np.int64)
        columns = self._order.numpy()[at, np.asarray(places, dtype=np.int64)]
        np.maximum.at(self._reach, (at, columns), np.asarray(losses))

    def rank(self) -> Tensor:
        """(n, R) rivals in their order from now on: those that one step came closest to, then the likely ones."""
        self._order = torch.from_numpy(np.argsort(-self._reach, axis=1, kind="stable"))
        return self._likely.gather(1, self._order)

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """What was learnt, by name, a row per example: to be kept, and written into when it is put back."""
        return {"closest": self._closest, "reach": self._reach}

    def worn(self, row: int) -> float:
        """Which share of its clean margin the example has lost, in [0, 1]."""
        clean = self.clean[row]
        return min(1.0, float(1 - self._closest[row] / clean)) if clean < 0 else 1.0
