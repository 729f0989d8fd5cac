"""What is trained on, batch by batch: examples in memory, or the user's own loader as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from pytest_robust import keyed
from pytest_robust.data import load, stratified
from pytest_robust.data.examples import Examples
from pytest_robust.data.loading import split_item
from pytest_robust.errors import PreflightError
from pytest_robust.models.protocol import Batch, Model
from pytest_robust.retraining import spread

_MOST_HELD_OUT = 1000


@dataclass(frozen=True)
class Part:
    """A batch to train on.

    Attributes:
        batch: on the model's device. labels: (B,) int64, or (B, C) of floating type, distributions over classes.
    """

    batch: Batch
    labels: Tensor

    @property
    def hard(self) -> Tensor:
        """(B,) int64: of distributions, the most likely class."""
        return self.labels.argmax(1) if self.labels.ndim == 2 else self.labels


class Feed(Protocol):
    """Attributes:
    ids: content ids of all examples, where they are known before training; else empty. size: examples of an epoch.
    batch_size: examples of a batch, at most.
    """

    @property
    def batch_size(self) -> int: ...
    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> int: ...
    def __len__(self) -> int:
        """Batches of an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[Part]:
        """The batches of an epoch, in its order."""
        ...


class InMemory:
    """Examples that were encoded once, in another order each epoch, that depends on seed and content alone. Only inputs of
    equal shape share a batch: short texts are not padded to the longest.
    """

    def __init__(self, model: Model, encoded: Examples, batch_size: int | None, seed: int) -> None:
        """
        Args:
            encoded: for the model. batch_size: None: 128, or less where that would be fewer than twenty batches.
        """
        self._model, self._examples, self._seed = model, encoded, seed
        self.batch_size = batch_size or max(8, min(128, len(encoded) // 20))

    @property
    def ids(self) -> tuple[str, ...]:
        return self._examples.ids

    @property
    def size(self) -> int:
        return len(self._examples)

    def __len__(self) -> int:
        return max(1, len(self._batches(0)) // spread.world())

    def epoch(self, number: int) -> Iterator[Part]:
        # Of several processes each has its share, and all have as many.
        for rows in self._batches(number)[spread.rank() :: spread.world()][: len(self)]:
            labels = self._examples.labels[rows].to(self._model.device)
            yield Part(self._model.batch(self._examples.take(rows)), labels)

    def _batches(self, number: int) -> list[list[int]]:
        seed, rows = keyed.key(self._seed, "epoch", number), list(range(len(self._examples)))
        batches = [
            group[start : start + self.batch_size]
            for group in self._examples.groups(keyed.ordered(seed, rows, self._examples.ids))
            for start in range(0, len(group), self.batch_size)
        ]
        # Of one shape after the other, the last batches would all be long texts.
        return [batches[i] for i in keyed.order(seed, [self._examples.ids[batch[0]] for batch in batches])]


class Loader:
    """The user's ``DataLoader``, with its shuffling and augmentation, as often as there are epochs."""

    def __init__(self, model: Model, loader: DataLoader[Any], forbidden: frozenset[str]) -> None:
        """
        Args:
            forbidden: content ids that must not come.
        """
        self._model, self._loader, self._forbidden = model, loader, forbidden
        self.batch_size = loader.batch_size or 0

    @property
    def ids(self) -> tuple[str, ...]:
        return ()

    @property
    def size(self) -> int:
        return len(cast("Sized", self._loader.dataset))

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, number: int) -> Iterator[Part]:
        """Raises PreflightError for a batch that is none, or holds an example to be tested on."""
        sampler: Any = self._loader.sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(number)
        for i, item in enumerate(self._loader):
            yield self._part(item, f"batch {i} of the training data", check=number == 0)

    def _part(self, item: object, where: str, *, check: bool) -> Part:
        inputs, labels = split_item(item, where)
        soft = isinstance(labels, Tensor) and labels.ndim == 2 and labels.is_floating_point() and labels.shape[1] > 1
        hard = cast("Tensor", labels).argmax(1) if soft else labels
        examples = load((inputs, hard), classes=self._model.classes)
        if check:
            refuse_overlap(examples.ids, self._forbidden, where)
        kept = cast("Tensor", labels).detach().float() if soft else examples.labels
        encoded = self._model.encode(examples)
        return Part(self._model.batch(encoded.inputs), kept.to(self._model.device))


def refuse_overlap(ids: Sequence[str], apart: frozenset[str], where: str) -> None:
    """Raises PreflightError where an example is one that was set apart: the proof would be none."""
    both = [(i, id) for i, id in enumerate(ids) if id in apart]
    if both:
        i, id = both[0]
        raise PreflightError(
            f"{where} holds {len(both)} of the examples that the model is to be tested or validated on, the first is number "
            f"{i} (id {id}); a model that was trained on its test proves nothing: take them out of one of the two"
        )


def held_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Training and validation examples: a stratified share of ``examples``, chosen by content, at most 1000.

    Raises:
        PreflightError: too few are left on one side.
    """
    held = set(stratified(examples, _count(len(examples), share), seed))
    # Doubles of one example must not lie on both sides.
    kept = {examples.ids[i] for i in held}
    rest = [i for i in range(len(examples)) if examples.ids[i] not in kept]
    if not rest:
        raise PreflightError(f"data: of {len(examples)} training examples none is left beside those held out; give more")
    return examples.subset(rest), examples.subset(sorted(held))


def held_out_of_loader(loader: DataLoader[Any], share: float, seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Two loaders, equal otherwise: of the rest of its data set, and of the share that was held out, at most 1000.

    Raises:
        PreflightError: its data set has no places, or its sampler is one that cannot be made again for a part of it.
    """
    plain = type(loader.sampler) in (SequentialSampler, RandomSampler) and type(loader.batch_sampler) is BatchSampler
    if isinstance(loader.dataset, IterableDataset) or not plain:
        chooser = type(loader.dataset if isinstance(loader.dataset, IterableDataset) else loader.sampler).__name__
        raise PreflightError(
            f"train_data: of a DataLoader with a {chooser} no part can be held out for validation; give examples that it "
            "never trains on as val_data="
        )
    n = len(cast("Sized", loader.dataset))
    order = keyed.order(seed, map(str, range(n)))
    count = _count(n, share)
    held, rest = sorted(order[:count]), sorted(order[count:])
    if not rest:
        raise PreflightError(f"train_data: of {n} examples none is left beside those held out; give more")
    options: dict[str, Any] = {
        name: getattr(loader, name)
        for name in (
            "batch_size",
            "num_workers",
            "collate_fn",
            "pin_memory",
            "drop_last",
            "timeout",
            "worker_init_fn",
            "multiprocessing_context",
            "generator",
            "persistent_workers",
        )
    }
    shuffled = isinstance(loader.sampler, RandomSampler)
    return DataLoader(Subset(loader.dataset, rest), shuffle=shuffled, **options), DataLoader(
        Subset(loader.dataset, held), **options
    )


def _count(n: int, share: float) -> int:
    return max(1, min(_MOST_HELD_OUT, round(n * share)))


def keys_of(seed: int, step: int, n: int, device: torch.device) -> Tensor:
    """(n,) int64 keys of the random numbers of a training step."""
    base = torch.full((n,), keyed.key(seed, "step", step, spread.rank()), dtype=torch.int64)
    return keyed.child(base, torch.arange(n)).to(device)
