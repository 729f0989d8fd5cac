"""Evaluations survive being written down."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from pytest_robust.errors import DamagedError
from pytest_robust.evaluation.memory import pack, unpack
from pytest_robust.evaluation.result import Health, HealthCheck
from pytest_robust.evaluation.sequential import Sample
from pytest_robust.store.codec import decode, encode


def same(a, b):
    for field in fields(a):
        mine, theirs = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        elif field.name in ("witnesses", "shown"):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[row], theirs[row]) for row in mine)
        else:
            assert mine == theirs, field.name
    return True


def test_an_evaluation_comes_back_whole(finished):
    other = replace(
        finished,
        health=Health((HealthCheck("slope", "invalid", "why", "a reason"),)),
        sample=Sample(5, 3, 9, 0.99, 2, 7),
        bound="sampled",
    )
    for evaluation in (finished, other, replace(finished, floor=None, classes=None)):
        content, arrays = encode(evaluation)
        assert same(evaluation, decode(json.loads(json.dumps(content)), arrays))


@pytest.mark.parametrize("part", ["threat", "ids", "health", "floor", "witnesses", "labels", "shown"])
def test_a_missing_part_is_damage(finished, part):
    content, arrays = encode(finished)
    content.pop(part, None)
    arrays.pop(part, None)
    if part == "witnesses":
        del arrays["points.0"]
    with pytest.raises(DamagedError):
        decode(content, arrays)


def test_points_of_different_shapes_are_kept_by_row():
    points = {7: torch.rand(2, 3), 1: torch.rand(4, 3), 3: torch.rand(2, 3), 5: torch.rand(2, 3, dtype=torch.float64)}
    found = unpack(pack(points))
    assert list(found) == [1, 3, 5, 7]
    assert all(torch.equal(found[row], points[row]) for row in points)
    assert unpack(pack({})) == {}
