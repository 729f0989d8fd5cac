"""Inputs as users have them, turned into tensors, columns of tensors, or texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pytest_robust.data.examples import Column, Inputs, Text
from pytest_robust.errors import PreflightError

_ROW_NUMBERS = ("idx", "id", "guid", "index")
"""Columns of text data sets that only number the rows (GLUE's ``idx``)."""


def as_inputs(values: object) -> Inputs:
    """What the model is to see: a tensor, one tensor per example, a mapping of such columns, or texts; on the CPU.

    Nothing is rescaled, and floating types stay as they are.

    Raises:
        PreflightError: neither numbers nor texts, mixed, or uint8 pixels.
    """
    if isinstance(values, Mapping):
        return _as_columns(values)
    if isinstance(values, (list, tuple)) and values and all(isinstance(v, Mapping) for v in values):
        return _as_columns(_transposed(values))
    inputs = _as_column(values, "inputs")
    _refuse_bytes([inputs])
    return inputs


def count(inputs: Inputs) -> int:
    """How many examples there are.

    Raises:
        PreflightError: a single number instead of a batch, or columns of different lengths.
    """
    if isinstance(inputs, dict):
        lengths = {key: _length(column, key) for key, column in inputs.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise PreflightError(f"inputs: the columns have different lengths ({shown}); give one row per example in each")
        return next(iter(lengths.values()))
    return _length(inputs, "inputs")


def _length(column: Tensor | Sequence[object], name: str) -> int:
    if isinstance(column, Tensor) and column.ndim == 0:
        raise PreflightError(f"{name}: a single number; give one row per example, shape (n, ...)")
    return len(column)


def _as_columns(values: Mapping[object, object]) -> Inputs:
    if not values:
        raise PreflightError("inputs: the mapping has no columns; give the model's inputs by name")
    columns = {str(key): _as_column(value, str(key)) for key, value in values.items()}
    texts = [key for key, column in columns.items() if isinstance(column, list) and not isinstance(column[0], Tensor)]
    if not texts:
        tensors = cast("dict[str, Column]", columns)
        _refuse_bytes(tensors.values())
        return tensors
    others = [key for key in columns if key not in texts and key not in _ROW_NUMBERS]
    if others or len(texts) > 2:
        raise PreflightError(
            f"inputs: which of the columns {', '.join(columns)} are the text is not clear; "
            "give (texts, labels), or for pairs a list of (premise, hypothesis) and labels"
        )
    texts_by_column = [cast("list[Text]", columns[key]) for key in texts]
    if len(texts) == 1:
        return texts_by_column[0]
    first, second = texts_by_column
    if len(first) != len(second) or not all(isinstance(t, str) for t in (*first, *second)):
        raise PreflightError(f"inputs: the columns {' and '.join(texts)} do not pair up; give one text per example in each")
    return cast("list[Text]", list(zip(first, second, strict=True)))


def _transposed(rows: Sequence[object]) -> dict[object, object]:
    mappings = cast("Sequence[Mapping[object, object]]", rows)
    keys = list(mappings[0])
    for i, row in enumerate(mappings):
        if set(row) != set(keys):
            raise PreflightError(
                f"inputs: example {i} has the columns {', '.join(map(str, row))}, "
                f"example 0 has {', '.join(map(str, keys))}; every example needs the same"
            )
    return {key: [row[key] for row in mappings] for key in keys}


def _as_column(values: object, name: str) -> Tensor | list[Tensor] | list[Text]:
    if isinstance(values, Tensor) or not isinstance(values, (list, tuple)):
        array = values if isinstance(values, (Tensor, np.ndarray)) else _numpy_of(values)
        if isinstance(array, Tensor) or array.dtype.kind not in "UO":
            return as_tensor(array, name)
        values = array.tolist()
    if not isinstance(values, (list, tuple)):
        raise PreflightError(f"{name}: a single {type(values).__name__}; give one row per example")
    if not values:
        raise PreflightError(f"{name}: empty; give at least one example")
    if any(isinstance(v, str) or _is_text_tuple(v) for v in values):
        return _as_texts(values, name)
    if all(isinstance(v, (bool, int, float, np.number, np.bool_)) for v in values):
        return as_tensor(values, name)
    rows = [as_tensor(v, f"{name}, example {i}") for i, v in enumerate(values)]
    same = all(row.shape == rows[0].shape and row.dtype == rows[0].dtype for row in rows)
    return torch.stack(rows) if same else rows


def as_tensor(value: object, name: str) -> Tensor:
    """One value as a dense tensor on the CPU, off any autograd graph; it may share memory with ``value``.

    Raises:
        PreflightError: not numbers.
    """
    try:
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            return value if value.layout == torch.strided else value.to_dense()
        if isinstance(value, np.ndarray):
            # torch reads neither negative strides nor foreign byte orders, and warns of read-only memory.
            value = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
            value = np.ascontiguousarray(value) if value.flags.writeable else value.copy()
            return torch.from_numpy(value)
        if isinstance(value, np.generic):
            return torch.from_numpy(np.array(value))
        return torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__module__.partition(".")[0] + "." + type(value).__name__
        fix = "turn it into a tensor of floats first"
        if kind.startswith("PIL."):
            fix = "use a transform that gives tensors in [0, 1], such as torchvision.transforms.ToTensor()"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PreflightError(f"{name}: {kind} cannot be read as numbers ({reason}); {fix}") from None


def _numpy_of(values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Arrays of other libraries (pandas, polars, JAX) as numpy sees them."""
    if isinstance(values, (str, bytes)) or values is None:
        raise PreflightError(f"inputs: {type(values).__name__} found where the inputs should be; give one row per example")
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise PreflightError(
            f"inputs: {type(values).__name__} cannot be read as numbers ({error}); give a tensor, an array or a list"
        ) from None


def _is_text_tuple(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(part, str) for part in value)


def _as_texts(values: Sequence[object], name: str) -> list[Text]:
    texts: list[Text] = []
    for i, value in enumerate(values):
        if isinstance(value, str):
            texts.append(value)
        elif _is_text_tuple(value):
            texts.append(tuple(cast("Sequence[str]", value)))
        else:
            raise PreflightError(
                f"{name}: example {i} is {type(value).__name__}, others are texts; every example needs a text, "
                "or a (premise, hypothesis) pair of texts"
            )
    return texts


def _refuse_bytes(columns: object) -> None:
    """uint8 is what image files hold, and models are trained on scaled floats: dividing by 255 is the user's to say."""
    found = [c[0] if isinstance(c, list) else c for c in cast("Sequence[Tensor | list[Tensor] | list[Text]]", columns)]
    tensors = [c for c in found if isinstance(c, Tensor)]
    if any(t.dtype == torch.uint8 for t in tensors) and not any(t.is_floating_point() for t in tensors):
        raise PreflightError(
            "inputs: uint8 pixels, 0 to 255; attacks move floating-point inputs: use inputs.float() / 255, or in a data set "
            "torchvision.transforms.ToTensor() or v2.ToDtype(torch.float32, scale=True)"
        )
