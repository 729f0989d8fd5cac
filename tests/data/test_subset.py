from __future__ import annotations

from collections import Counter

import pytest
import torch

from pytest_robust.data import Examples, stratified


def build(labels: list[int], order: list[int] | None = None) -> Examples:
    order = list(range(len(labels))) if order is None else order
    return Examples.of(torch.tensor([[float(i)] for i in order]), torch.tensor([labels[i] for i in order]))


def test_all_examples_when_n_is_large_enough() -> None:
    examples = build([0, 1, 0])
    assert stratified(examples, 3, 0) == stratified(examples, 99, 0) == [0, 1, 2]


def test_classes_keep_their_proportions() -> None:
    examples = build([0] * 60 + [1] * 30 + [2] * 10)
    chosen = stratified(examples, 20, seed=0)
    assert Counter(examples.labels[chosen].tolist()) == {0: 12, 1: 6, 2: 2}
    assert chosen == sorted(set(chosen))


def test_remainders_are_shared_out_to_the_exact_number() -> None:
    examples = build([0] * 33 + [1] * 33 + [2] * 34)
    for n in range(1, 101):
        assert len(stratified(examples, n, seed=1)) == n


def test_the_same_content_is_chosen_in_any_order() -> None:
    labels = [i % 3 for i in range(90)]
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0)).tolist()
    plain, shuffled = build(labels), build(labels, order)
    chosen = {plain.ids[i] for i in stratified(plain, 17, seed=5)}
    assert chosen == {shuffled.ids[i] for i in stratified(shuffled, 17, seed=5)}


def test_a_larger_subset_contains_the_smaller_one_of_one_class() -> None:
    examples = build([0] * 50)
    assert set(stratified(examples, 10, 0)) < set(stratified(examples, 20, 0))


def test_the_seed_chooses_others() -> None:
    examples = build([0] * 100)
    assert stratified(examples, 10, seed=0) != stratified(examples, 10, seed=1)


def test_each_class_is_present_where_n_allows() -> None:
    examples = build([0] * 997 + [1, 2, 3])
    assert set(examples.labels[stratified(examples, 4, 0)].tolist()) == {0, 1, 2, 3}
    assert len(stratified(examples, 3, 0)) == 3


def test_duplicates_are_examples_like_others() -> None:
    examples = Examples.of(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64))
    assert len(stratified(examples, 4, 0)) == 4


@pytest.mark.parametrize("n", [0, -1])
def test_n_must_be_positive(n: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        stratified(build([0, 1]), n, 0)
