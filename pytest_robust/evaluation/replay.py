"""Adversarial examples found before, tried first: one forward pass each, and a proof like any other where they still work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pytest_robust.attacks import Live
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.subjects import Subjects

REPLAY = "replay"
"""What breaks by them is called in reports."""


def standing_points(subjects: Subjects, rows: Sequence[int], known: Mapping[str, Sequence[Tensor]]) -> list[list[tuple[int, Tensor]]]:
    """Rounds of points to try, at most one per example and round; of the right shape for what they are tried on."""
    ids = subjects.examples.ids
    rounds: list[list[tuple[int, Tensor]]] = []
    for row in rows:
        for turn, point in enumerate(known.get(ids[row], ())):
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append((row, point))
    return rounds
