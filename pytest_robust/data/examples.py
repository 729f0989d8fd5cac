"""(x, y) ~ D: the user's data with one content id per example."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

Column = Tensor | list[Tensor]
"""A stacked (n, ...) tensor, or one tensor per example where shapes differ."""
Text = str | tuple[str, ...]
Inputs = Tensor | dict[str, Column] | list[Tensor] | list[Text]


@dataclass(frozen=True)
class Examples:
    """Labelled examples in the user's order, on the CPU.

    Attributes:
        inputs: a (n, ...) tensor, a list of tensors of differing shape, a mapping of such columns, or a list of texts.
        labels: (n,) int64.
        ids: content ids, 16 hexadecimal digits each, equal for equal content.
        classes: class names by label, where known.
        references: what the output of each is held against where a class number does not say it (the tags of a text's
            words, a translation, relevant documents): strings in the notation of the model that reads them, JSON where
            they have parts.
    """

    inputs: Inputs
    labels: Tensor
    ids: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    references: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        labels: Tensor,
        classes: Sequence[str] | None = None,
        references: Sequence[str] | None = None,
    ) -> Examples:
        """Examples with their content ids computed; references, one per example, are part of the content."""
        held = [None] * len(labels) if references is None else references
        ids = tuple(
            content_id(_item(inputs, i), int(label), reference)
            for i, (label, reference) in enumerate(zip(labels.tolist(), held, strict=True))
        )
        names = tuple(map(str, classes)) if classes is not None else None
        return cls(inputs, labels, ids, names, None if references is None else tuple(references))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Sequence[int]) -> Inputs:
        """The inputs at ``indices``, stacked; their shapes must agree (see ``groups``)."""
        if isinstance(self.inputs, dict):
            return {key: _take_column(column, indices) for key, column in self.inputs.items()}
        if isinstance(self.inputs, Tensor):
            return _take_column(self.inputs, indices)
        if self.inputs and isinstance(self.inputs[0], Tensor):
            return _take_column(self.inputs, indices)
        return [cast("list[Text]", self.inputs)[i] for i in indices]

    def subset(self, indices: Sequence[int]) -> Examples:
        """The examples at ``indices``, in that order."""
        inputs: Inputs
        if isinstance(self.inputs, dict):
            inputs = {key: _pick(column, indices) for key, column in self.inputs.items()}
        elif isinstance(self.inputs, Tensor):
            inputs = self.inputs[list(indices)]
        else:
            inputs = cast("Inputs", [self.inputs[i] for i in indices])
        return replace(
            self,
            inputs=inputs,
            labels=self.labels[list(indices)],
            ids=tuple(self.ids[i] for i in indices),
            references=None if self.references is None else tuple(self.references[i] for i in indices),
        )

    def groups(self, indices: Sequence[int]) -> list[list[int]]:
        """``indices`` split into runs whose inputs have equal shapes, so that each can be stacked."""
        by_shape: dict[object, list[int]] = defaultdict(list)
        for i in indices:
            by_shape[_shape(_item(self.inputs, i))].append(i)
        return list(by_shape.values())


def content_id(item: Tensor | Mapping[str, Tensor] | Text, label: int, reference: str | None = None) -> str:
    """16 hexadecimal digits of BLAKE2b over the bytes, type and shape of one input, its label, and its reference if any."""
    digest = hashlib.blake2b(digest_size=8)
    parts: list[tuple[str, Tensor | str]]
    if isinstance(item, Mapping):
        parts = sorted(item.items())
    elif isinstance(item, Tensor):
        parts = [("", item)]
    else:
        parts = [("", text) for text in parts_of(item)]
    for key, part in parts:
        if isinstance(part, Tensor):
            head, body = f"{key}:{part.dtype}:{tuple(part.shape)}", _bytes(part)
        else:
            body = _encoded(part)
            head = f"{key}:str:{len(body)}"
        digest.update(head.encode() + b"\0" + body)
    digest.update(f"label:{label}".encode())
    if reference is not None:
        digest.update(b"\0reference:" + _encoded(reference))
    return digest.hexdigest()


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # text from the web holds lone surrogates


def parts_of(text: Text) -> tuple[str, ...]:
    """The parts of a text: itself, or those of a pair."""
    return (text,) if isinstance(text, str) else text


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _item(inputs: Inputs, i: int) -> Tensor | dict[str, Tensor] | Text:
    if isinstance(inputs, dict):
        return {key: column[i] for key, column in inputs.items()}
    return inputs[i]


def _shape(item: Tensor | dict[str, Tensor] | Text) -> object:
    if isinstance(item, dict):
        return tuple((key, tuple(value.shape)) for key, value in item.items())
    return tuple(item.shape) if isinstance(item, Tensor) else None


def _pick(column: Column, indices: Sequence[int]) -> Column:
    return column[list(indices)] if isinstance(column, Tensor) else [column[i] for i in indices]


def _take_column(column: Column, indices: Sequence[int]) -> Tensor:
    picked = _pick(column, indices)
    return picked if isinstance(picked, Tensor) else torch.stack(picked)
