from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pytest_robust.data import Examples, load
from pytest_robust.errors import PreflightError

X = torch.arange(24.0).view(6, 2, 2) / 24
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Rows(Dataset[Any]):
    """A map-style data set whose items are made by ``item``."""

    def __init__(self, item: Any, n: int = 6) -> None:
        self.item, self.n = item, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        return self.item(i)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter([(X[i], int(Y[i])) for i in range(6)])


class Foreign:
    """An array as pandas, polars or JAX give it: all that is known is how to make it numpy's."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


class WithoutLength(Dataset[Any]):
    def __getitem__(self, i: int) -> Any:
        return X[i], Y[i]


def pair(i: int) -> tuple[Tensor, int]:
    return X[i], int(Y[i])


def batched_collate(items: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    return {"x": torch.stack([x + 1 for x, _ in items]), "label": torch.tensor([y for _, y in items])}


EXPECTED = Examples.of(X, Y)
FORMS = {
    "tensors": lambda: (X, Y),
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "a list of two tensors": lambda: [X, Y],
    "nested lists": lambda: (X.tolist(), Y.tolist()),
    "a list of tensors": lambda: (list(X), list(Y)),
    "rows": lambda: [pair(i) for i in range(6)],
    "tensor data set": lambda: TensorDataset(X, Y),
    "map-style data set": lambda: Rows(pair),
    "iterable data set": Stream,
    "subset": lambda: Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), range(6, 12)),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
    "loader that shuffles": lambda: DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True),
    "loader that drops": lambda: DataLoader(TensorDataset(X, Y), batch_size=4, drop_last=True),
    "loader of a stream": lambda: DataLoader(Stream(), batch_size=4, drop_last=True),
    "loader without batching": lambda: DataLoader(Rows(pair), batch_size=None),
    "loader of whole batches": lambda: DataLoader(
        Rows(lambda i: (X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2]), 3), batch_size=None
    ),
    "loader of some": lambda: DataLoader(
        TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), sampler=SubsetRandomSampler([5, 3, 4, 1, 0, 2])
    ),
    "read-only arrays": lambda: (_read_only(X.numpy()), Y.numpy()),
    "flipped arrays": lambda: (X.numpy()[::-1][::-1], Y.numpy()),
    "big-endian arrays": lambda: (X.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "on a graph": lambda: (X.clone().requires_grad_(), Y),
    "sparse": lambda: (X.to_sparse(), Y),
    "examples": lambda: Examples.of(X, Y),
    "arrays of another library": lambda: (Foreign(X.numpy()), Foreign(Y.numpy())),
}


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples_in_order(form: str) -> None:
    examples = load(FORMS[form]())
    assert isinstance(examples.inputs, Tensor)
    assert torch.equal(examples.inputs, X)
    assert examples.labels.tolist() == Y.tolist()
    assert examples.ids == EXPECTED.ids
    assert not examples.inputs.requires_grad


def test_floating_types_are_kept() -> None:
    assert load((X.numpy().astype(np.float64), Y)).inputs.dtype == torch.float64
    assert load((X.half(), Y)).inputs.dtype == torch.float16


@pytest.mark.parametrize(
    "data",
    [
        ({"pixels": X, "mask": Y}, Y),
        {"pixels": X, "mask": Y, "label": Y},
        {"pixels": X, "mask": Y, "labels": Y},
        [({"pixels": X[i], "mask": Y[i]}, Y[i]) for i in range(6)],
        [{"pixels": X[i], "mask": Y[i], "labels": int(Y[i])} for i in range(6)],
        Rows(lambda i: {"pixels": X[i], "mask": Y[i], "label": int(Y[i])}),
        DataLoader(Rows(lambda i: {"pixels": X[i], "mask": Y[i], "label": int(Y[i])}), batch_size=4),
    ],
)
def test_columns_stay_columns(data: Any) -> None:
    examples = load(data)
    assert isinstance(examples.inputs, dict)
    assert torch.equal(examples.inputs["pixels"], X)
    assert torch.equal(examples.inputs["mask"], Y)
    assert examples.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        ([("good", 1), ("bad", 0)], ["good", "bad"]),
        ((["good", "bad"], [1, 0]), ["good", "bad"]),
        ((np.array(["good", "bad"]), [1, 0]), ["good", "bad"]),
        ({"sentence": ["good", "bad"], "idx": [7, 8], "label": [1, 0]}, ["good", "bad"]),
        ([{"text": "good", "label": 1}, {"text": "bad", "label": 0}], ["good", "bad"]),
        ([(("a", "b"), 1), (["c", "d"], 0)], [("a", "b"), ("c", "d")]),
        ({"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [1, 0]}, [("a", "b"), ("c", "d")]),
        (DataLoader(Rows(lambda i: (["good", "bad"][i], 1 - i), 2), batch_size=2), ["good", "bad"]),
    ],
)
def test_texts_and_pairs_of_texts(data: Any, texts: list[Any]) -> None:
    examples = load(data)
    assert examples.inputs == texts
    assert examples.labels.tolist() == [1, 0]


def test_inputs_of_different_shapes_stay_apart() -> None:
    examples = load([(torch.zeros(3), 0), (torch.zeros(4), 1)])
    assert [tuple(x.shape) for x in examples.inputs] == [(3,), (4,)]


def test_a_collate_function_sees_each_example_alone() -> None:
    examples = load(DataLoader(Rows(pair), batch_size=4, shuffle=True, collate_fn=batched_collate))
    assert isinstance(examples.inputs, dict)
    assert torch.equal(examples.inputs["x"], X + 1)
    assert examples.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([1.0] * 6, 6)),
        DataLoader(TensorDataset(X, Y), batch_sampler=type("Bucketed", (BatchSampler,), {})(SequentialSampler(X), 2, False)),
    ],
)
def test_a_loader_that_chooses_examples_is_refused(loader: Any) -> None:
    with pytest.raises(PreflightError, match="Subset"):
        load(loader)


def test_random_states_are_left_alone_and_random_transforms_repeat() -> None:
    def augmented(i: int) -> tuple[Tensor, int]:
        return X[i] + torch.rand(()) + random.random() + np.random.rand(), int(Y[i])

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = load(Rows(augmented))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    torch.rand(3)
    assert load(Rows(augmented)).ids == first.ids


def test_class_names_are_the_arguments_then_the_data_sets() -> None:
    data = Rows(pair)
    data.classes = ["a", "b", "c"]
    assert load(data).classes == ("a", "b", "c")
    assert load(DataLoader(Subset(data, [0, 1]))).classes == ("a", "b", "c")
    assert load(data, classes=["x", "y", "z"]).classes == ("x", "y", "z")
    assert load((X, Y)).classes is None
    assert load(load((X, Y)), classes=["x", "y", "z"]).classes == ("x", "y", "z")


def test_class_names_of_hugging_face_features() -> None:
    data = Rows(lambda i: {"text": f"text {i}", "label": int(Y[i])})
    data.features = {"label": type("ClassLabel", (), {"names": ["a", "b", "c"]})()}
    assert load(data).classes == ("a", "b", "c")


def test_duplicates_have_the_same_id() -> None:
    assert len(set(load((torch.zeros(4, 3), [0, 0, 0, 1])).ids)) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X, Y[:5]), ["6 inputs and 5 labels"]),
        ((X[:0], Y[:0]), ["no examples"]),
        (([], []), ["at least one"]),
        ([], ["no examples"]),
        (Rows(pair, 0), ["no examples"]),
        (X, ["labels are missing", "(inputs, labels)"]),
        (None, ["NoneType", "DataLoader"]),
        ("texts", ["str", "(inputs, labels)"]),
        ((X, Y, Y), ["tuple", "(inputs, labels)"]),
        ([X[0], X[1], X[2]], ["example 0", "(input, label)"]),
        ([(X[0], 0, 1)], ["3 parts", "mapping"]),
        ({"x": X}, ["exactly one", "'label'"]),
        ({"x": X, "label": Y, "labels": Y}, ["exactly one"]),
        ({"label": Y}, ["no columns"]),
        (({"a": X, "b": X[:5]}, Y), ["a 6, b 5", "different lengths"]),
        ((torch.tensor(1.0), [0]), ["single number"]),
        (((X * 255).byte(), Y), ["uint8", "inputs.float() / 255", "ToTensor"]),
        (({"pixels": (X * 255).byte()}, Y), ["uint8"]),
        ([((X[0] * 255).byte(), 0)], ["uint8"]),
        ((["a", 3], [0, 1]), ["example 1 is int", "texts"]),
        (([object()], [0]), ["example 0", "tensor of floats"]),
        (({"a": ["x"], "b": ["y"], "c": ["z"]}, [0]), ["a, b, c", "not clear"]),
        (({"a": ["x"], "n": [1.0]}, [0]), ["a, n", "not clear"]),
        ([({"a": X[0]}, 0), ({"b": X[0]}, 0)], ["example 1", "example 0", "same"]),
        (WithoutLength(), ["no length", "__len__"]),
        ((None, Y), ["NoneType", "one row per example"]),
        (("text", [0]), ["str", "one row per example"]),
        ((np.array("text"), [0]), ["single str"]),
        (({"a": ["x", "y"], "b": ["z"]}, [0, 1]), ["a and b", "do not pair up"]),
    ],
)
def test_unusable_data_says_what_to_do(data: Any, words: list[str]) -> None:
    with pytest.raises(PreflightError) as caught:
        load(data)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_images_that_are_no_tensors_name_the_transform() -> None:
    image = type("Image", (), {"__module__": "PIL.Image"})()
    with pytest.raises(PreflightError, match="ToTensor"):
        load([(image, 0), (image, 1)])


def test_classes_must_be_several() -> None:
    with pytest.raises(PreflightError, match="list of names"):
        load((X, Y), classes="cat")
