from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pytest_robust.data.labels import as_labels
from pytest_robust.errors import PreflightError


@pytest.mark.parametrize(
    "values",
    [
        [0, 2, 1],
        (0, 2, 1),
        torch.tensor([0, 2, 1], dtype=torch.int32),
        torch.tensor([0, 2, 1], dtype=torch.uint8),
        torch.tensor([0.0, 2.0, 1.0]),
        np.array([0, 2, 1]),
        np.array([0.0, 2.0, 1.0], dtype=np.float32),
        [np.int64(0), np.int64(2), np.int64(1)],
        [torch.tensor(0), torch.tensor(2), torch.tensor(1)],
        ["cat", "frog", "dog"],
        np.array(["cat", "frog", "dog"]),
        np.array(["cat", "frog", "dog"], dtype=object),
    ],
)
def test_whole_numbers_and_names_are_read(values: Any) -> None:
    labels = as_labels(values, ("cat", "dog", "frog"))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 2, 1]


def test_booleans_are_two_classes() -> None:
    assert as_labels(np.array([True, False]), None).tolist() == [1, 0]


def test_read_only_arrays_are_read_without_a_warning() -> None:
    values = np.array([0, 1])
    values.flags.writeable = False
    assert as_labels(values, None).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.eye(3), ["(3, 3)", "labels.argmax(1)"]),
        (torch.zeros(3, 1), ["(3, 1)", "labels.squeeze(1)"]),
        (torch.zeros(3, 4, 4), ["(3, 4, 4)", "one label per example"]),
        (torch.tensor(3), ["()", "unsqueeze(0)"]),
        ([0.0, 0.5], ["example 1 has label 0.5", "regression"]),
        ([0.0, float("nan"), 1.0], ["example 1 has label nan", "1 of 3", "drop"]),
        ([0, -1, -1], ["example 1 has label -1", "2 of 3", "without labels"]),
        ([0, 5], ["example 1 has label 5", "2 classes"]),
        (["cat", "cow"], ["'cow'", "cat, dog", "classes=[...]"]),
        ([None, 1], ["labels", "list of integers"]),
        (torch.zeros(2, dtype=torch.complex64), ["complex64", "whole number"]),
    ],
)
def test_unusable_labels_name_the_fix(values: Any, words: list[str]) -> None:
    with pytest.raises(PreflightError) as caught:
        as_labels(values, ("cat", "dog"))
    message = str(caught.value)
    assert message.startswith("labels: ")
    assert all(word in message for word in words), message


def test_names_without_classes_name_what_was_found() -> None:
    with pytest.raises(PreflightError, match=r"'cat', 'dog'.*classes=\[\.\.\.\]"):
        as_labels(["dog", "cat", "dog"], None)
