from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_robust.data.examples import Examples, content_id


def test_ids_are_equal_for_equal_content_and_differ_for_other_content() -> None:
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    examples = Examples.of(x, torch.tensor([0, 0, 0, 1]))
    first, same, other_input, other_label = examples.ids
    assert first == same
    assert len({first, other_input, other_label}) == 3
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in examples.ids)


def test_ids_are_fixed_for_ever() -> None:
    # Stored baselines pair examples by these: a change here would make every one of them incomparable.
    assert content_id(torch.tensor([0.5, 0.25]), 3) == "e8f85e35beeca132"
    assert content_id("a text", 0) == "55c4e006cdbec3b8"


def test_ids_depend_on_the_shape_type_and_parts() -> None:
    flat = torch.zeros(4)
    items = [flat, flat.view(2, 2), flat.double(), flat.int(), {"a": flat}, {"b": flat}, "ab", ("a", "b"), ("ab", "")]
    assert len({content_id(item, 0) for item in items}) == len(items)


def test_id_of_a_mapping_ignores_the_order_of_its_columns() -> None:
    a, b = torch.zeros(2), torch.ones(3)
    assert content_id({"a": a, "b": b}, 1) == content_id({"b": b, "a": a}, 1)


def test_ids_of_odd_layouts_are_those_of_the_plain_tensor() -> None:
    x = torch.arange(6.0).view(2, 3)
    assert content_id(x.t().contiguous().t(), 0) == content_id(x, 0)
    assert content_id(x.clone().requires_grad_(), 0) == content_id(x, 0)


def test_take_stacks_and_subset_keeps_ids_and_labels() -> None:
    x, mask = torch.arange(12.0).view(4, 3), [torch.ones(2), torch.ones(3), torch.ones(2), torch.ones(2)]
    examples = Examples.of({"x": x, "mask": mask}, torch.tensor([0, 1, 2, 3]), ["a", "b", "c", "d"])
    taken = examples.take([2, 0])
    assert isinstance(taken, dict)
    assert torch.equal(taken["x"], x[[2, 0]])
    assert taken["mask"].shape == (2, 2)
    subset = examples.subset([3, 1])
    assert subset.ids == (examples.ids[3], examples.ids[1])
    assert subset.labels.tolist() == [3, 1]
    assert subset.classes == ("a", "b", "c", "d")
    assert np.array_equal(subset.inputs["mask"][1].numpy(), np.ones(3))


def test_subsets_of_lists_keep_their_kind() -> None:
    texts = Examples.of(["a", "b", "c"], torch.tensor([0, 1, 2])).subset([2, 0])
    assert texts.inputs == ["c", "a"]
    assert texts.take([1]) == ["a"]
    rows = Examples.of([torch.zeros(2), torch.ones(3), torch.ones(2)], torch.tensor([0, 1, 2])).subset([0, 2])
    assert [tuple(row.shape) for row in rows.inputs] == [(2,), (2,)]
    taken = rows.take([1, 0])
    assert isinstance(taken, torch.Tensor)
    assert taken.tolist() == [[1, 1], [0, 0]]


def test_groups_have_equal_shapes_and_keep_the_order() -> None:
    rows = [torch.zeros(3), torch.zeros(5), torch.zeros(3)]
    assert Examples.of(rows, torch.tensor([0, 0, 1])).groups([0, 1, 2]) == [[0, 2], [1]]
    assert Examples.of(torch.zeros(3, 2), torch.tensor([0, 0, 1])).groups([2, 0]) == [[2, 0]]
    assert Examples.of(["a", "b c"], torch.tensor([0, 1])).groups([0, 1]) == [[0, 1]]


def test_references_are_part_of_the_content_and_travel_with_it() -> None:
    labels = torch.tensor([0, 0, 0])
    plain = Examples.of(["a", "b", "c"], labels)
    held = Examples.of(["a", "b", "c"], labels, references=["x", "y", ""])
    assert plain.references is None
    assert held.references == ("x", "y", "")
    assert not set(plain.ids) & set(held.ids)
    assert Examples.of(["a"], labels[:1], references=["y"]).ids != held.ids[:1]
    assert content_id("a", 0, "x") == held.ids[0]
    chosen = held.subset([2, 0])
    assert (chosen.references, chosen.ids) == (("", "x"), (held.ids[2], held.ids[0]))
    with pytest.raises(ValueError, match="zip"):
        Examples.of(["a", "b", "c"], labels, references=["x"])
