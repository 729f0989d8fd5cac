"""Reading the user's data, whatever form it comes in, in its own order and completely."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from pytest_robust.data.columns import as_inputs, count
from pytest_robust.data.examples import Examples
from pytest_robust.data.labels import as_labels
from pytest_robust.errors import PreflightError
from pytest_robust.random_state import preserved_random_state

_LABEL_KEYS = ("label", "labels")
_ACCEPTED = "(inputs, labels), a Dataset, a DataLoader, a list of (input, label), or a mapping with 'label'"


def load(data: object, *, classes: Sequence[str] | None = None) -> Examples:
    """The examples in ``data``, in its order, all of them, in memory on the CPU.

    Accepted are ``(inputs, labels)`` (tensors, arrays, lists, a mapping of tensors, texts), a mapping of columns with one
    called ``label`` or ``labels``, a map-style or iterable ``Dataset`` (also of Hugging Face) whose items are
    ``(input, label)`` or such mappings, a list of such items, a ``DataLoader``, and ``Examples``.

    A ``DataLoader`` is a recipe for training batches; here its data set is read in order instead, item by item, each
    through its ``collate_fn`` as a batch of one: nothing is shuffled or dropped, and padding does not depend on neighbours.

    Items are read with fixed random seeds, so that random transforms give the same examples each time; the global random
    states are left as they were.

    Args:
        classes: class names in the order of the model's outputs. Default: what the data set says (``.classes`` of
            torchvision, the label's names of Hugging Face), else None.

    Raises:
        PreflightError: empty, of a form not listed, inputs and labels that do not match, or unusable labels or inputs.
    """
    if isinstance(classes, str):
        raise PreflightError(f"classes={classes!r} is one text; give a list of names, in the order of the model's outputs")
    if isinstance(data, Examples):
        if not len(data):
            raise PreflightError("data: there are no examples; give at least one")
        return data if classes is None else replace(data, classes=tuple(map(str, classes)))
    raw_inputs, raw_labels = split(data)
    names = _names_of(data) if classes is None else tuple(map(str, classes))
    inputs, labels = as_inputs(raw_inputs), as_labels(raw_labels, names)
    n = count(inputs)
    if n != len(labels):
        raise PreflightError(f"data: there are {n} inputs and {len(labels)} labels; give one label per input")
    if n == 0:
        raise PreflightError("data: there are no examples; give at least one")
    return Examples.of(inputs, labels, names)


def _fix_seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    # Not torch.manual_seed: it also seeds the accelerators, whose states are not restored before they are in use.
    torch.default_generator.manual_seed(0)


def split(data: object) -> tuple[object, object]:
    """Inputs and labels of what ``load`` accepts, but for ``Examples``; each still as the user has them.

    Raises:
        PreflightError: empty, or of a form not known.
    """
    with preserved_random_state():
        _fix_seeds()
        return _split(data)


def _split(data: object) -> tuple[object, object]:
    if isinstance(data, Mapping):
        return _split_mapping(data, "data")
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return data.tensors
    if isinstance(data, tuple) and len(data) == 2:
        return data
    if isinstance(data, list) and len(data) == 2 and all(isinstance(part, (Tensor, np.ndarray)) for part in data):
        # What iterating over a DataLoader gives.
        return data[0], data[1]
    items = [split_item(item, f"example {i}") for i, item in enumerate(_items(data))]
    if not items:
        raise PreflightError("data: there are no examples; give at least one")
    return [x for x, _ in items], [y for _, y in items]


def _items(data: object) -> Iterator[object]:
    if isinstance(data, DataLoader):
        return _items_of_loader(data)
    if isinstance(data, IterableDataset):
        return iter(data)
    if isinstance(data, (str, bytes, Tensor, np.ndarray, tuple, set)) or not (
        isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))
    ):
        missing = "; the labels are missing" if isinstance(data, (Tensor, np.ndarray)) else ""
        raise PreflightError(f"data: {type(data).__name__} is not a form of data known here{missing}; give {_ACCEPTED}")
    if not hasattr(data, "__len__"):
        raise PreflightError(
            f"data: {type(data).__name__} has no length, so there is no telling whether all of it was read; "
            "give it a __len__, or make it an IterableDataset"
        )
    indexed = cast("Sequence[object]", data)
    return (indexed[i] for i in range(len(indexed)))


def _items_of_loader(loader: DataLoader[object]) -> Iterator[object]:
    if isinstance(loader.dataset, IterableDataset):
        items: Iterable[object] = iter(loader.dataset)
    else:
        dataset = cast("Sequence[object]", loader.dataset)
        items = (dataset[i] for i in _indices(loader, len(dataset)))
    if loader.batch_size is None and loader.batch_sampler is None:
        # Batching is left to the data set: each of its items is a batch already, or is not.
        for i, item in enumerate(items):
            yield from _unbatched(split_item(item, f"example {i}"))
    elif loader.collate_fn is default_collate:
        yield from items
    else:
        collate = cast("Callable[[list[object]], object]", loader.collate_fn)
        for i, item in enumerate(items):
            yield from _unbatched(split_item(collate([item]), f"example {i}"))


def _indices(loader: DataLoader[object], n: int) -> Sequence[int]:
    """Which items the loader would visit, in data order."""
    sampler = loader.sampler
    if loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler:
        if type(sampler) is SequentialSampler:
            return range(n)
        if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == n:
            return range(n)
        if type(sampler) is SubsetRandomSampler:
            return sorted(set(map(int, sampler.indices)))
        chooser = type(sampler).__name__
    else:
        chooser = type(loader.batch_sampler).__name__
    raise PreflightError(
        f"data: the DataLoader's {chooser} chooses examples in a way that cannot be repeated in data order; give the "
        "data set itself, or torch.utils.data.Subset(dataset, indices)"
    )


def _unbatched(batch: tuple[object, object]) -> Iterator[tuple[object, object]]:
    """The (input, label) pairs in a batch; a single pair stays as it is."""
    inputs, labels = batch
    if not isinstance(labels, (list, tuple)) and np.ndim(cast("Tensor", labels)) == 0:
        yield batch
        return
    labels = cast("Sequence[object]", labels)
    for j in range(len(labels)):
        if isinstance(inputs, Mapping):
            yield {key: column[j] for key, column in inputs.items()}, labels[j]
        else:
            yield cast("Sequence[object]", inputs)[j], labels[j]


def split_item(item: object, where: str) -> tuple[object, object]:
    """Inputs and labels of one example, or of one batch. ``where``: how to call it.

    Raises:
        PreflightError: it is neither a pair nor a mapping with labels.
    """
    if isinstance(item, Mapping):
        return _split_mapping(item, where)
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    what = f"{len(item)} parts" if isinstance(item, (tuple, list)) else f"a {type(item).__name__}"
    raise PreflightError(
        f"data: {where} has {what}, where (input, label) is needed; several inputs go in a mapping, "
        "(dict, label), and text pairs in a tuple, ((premise, hypothesis), label)"
    )


def _split_mapping(mapping: Mapping[object, object], where: str) -> tuple[dict[object, object], object]:
    keys = [key for key in _LABEL_KEYS if key in mapping]
    if len(keys) != 1:
        found = ", ".join(map(str, mapping)) or "nothing"
        raise PreflightError(f"labels: {where} has {found}; exactly one column must be called 'label' or 'labels'")
    return {key: value for key, value in mapping.items() if key != keys[0]}, mapping[keys[0]]


def _names_of(data: object) -> tuple[str, ...] | None:
    """The class names that the data set itself gives, through any Subset and DataLoader around it."""
    while not hasattr(data, "classes") and hasattr(data, "dataset"):
        data = data.dataset
    names = getattr(data, "classes", None)
    features = getattr(data, "features", None)
    if names is None and isinstance(features, Mapping):
        names = next((getattr(features[key], "names", None) for key in _LABEL_KEYS if key in features), None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
