"""Broken examples as a report can show them: PNG pictures, or the largest changes. No torch here, as in ``runs``."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_robust.errors import DamagedError
from pytest_robust.reports import words
from pytest_robust.reports.record import Record
from pytest_robust.store.files import SHOWN, read_arrays
from pytest_robust.store.runs import check_file

_WIDEST, _CHANGES = 256, 6
Array = npt.NDArray[Any]


def pictures(root: Path, check: Record) -> Record:
    """The ``examples`` of a finished check that are kept to be shown, in plain values; ``missing``: why there are none.

    Args:
        root: the folder ``.robust``. check: the record of the check.
    """
    if check["key"] is None:
        why = "what was evaluated cannot be recognised again, so no adversarial examples of it are kept"
        return {"examples": [], "missing": why}
    try:
        content, arrays = read_arrays(check_file(root, check["key"]))
        examples = [_example(check, content["classes"], row, *arrays[f"{SHOWN}{row}"]) for row in content["shown"]]
    except (OSError, DamagedError, KeyError, TypeError, ValueError) as error:
        return {"examples": [], "missing": f"the adversarial examples cannot be read: {error}"}
    return {"examples": examples, "missing": "" if examples else "no adversarial example has inputs to look at"}


def _example(check: Record, classes: list[str] | None, row: int, clean: Array, moved: Array) -> Record:
    def name(label: int) -> str:
        known = classes[label] if classes is not None and 0 <= label < len(classes) else str(label)
        return words.class_name({"label": label, "name": known})

    facts = check["examples"]
    about = {
        "row": row,
        "label": name(facts["labels"][row]),
        "predicted": name(facts["predicted"][row]),
        "by": facts["broken_by"][row],
    }
    is_image = clean.ndim == 3 and clean.shape[0] in (1, 3) and min(clean.shape[1:]) > 1
    return about | (_drawn(clean, moved, check["threat"]["bounds"]) if is_image else _listed(clean, moved))


def _drawn(clean: Array, moved: Array, bounds: str) -> Record:
    """Both images with their values mapped from the bounds, and the change, made so large that it can be seen."""
    known = re.match(r"\[(\S+), ([^\],\s]+)\]", bounds)
    low, high = map(float, known.groups()) if known else (min(clean.min(), moved.min()), max(clean.max(), moved.max()))
    span = float(high - low) or 1.0
    change = (moved - clean).astype(np.float64)
    largest = float(np.abs(change).max()) or 1.0
    return {
        "width": clean.shape[2],
        "clean": _png((clean - low) / span),
        "adversarial": _png((moved - low) / span),
        "change": _png(0.5 + change / (2 * largest)),
        "times": f"{span / (2 * largest):.3g}",
    }


def _png(image: Array) -> str:
    """A data URI of a (C, H, W) image in [0, 1], of one or three channels; of a very large one every so manieth pixel."""
    step = -(-max(image.shape[1:]) // _WIDEST)
    bytes_ = np.rint(255 * np.clip(image[:, ::step, ::step], 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    height, width, channels = bytes_.shape
    # Each line begins with the number of its filter: none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), bytes_.reshape(height, width * channels)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _listed(clean: Array, moved: Array) -> Record:
    """The features that changed most."""
    change = (moved - clean).astype(np.float64)
    sizes = np.abs(change).ravel()
    order = [int(i) for i in np.argsort(-sizes, kind="stable")[:_CHANGES] if sizes[i] > 0]
    places = [tuple(int(i) for i in np.unravel_index(flat, clean.shape)) for flat in order]
    rows = [
        (", ".join(map(str, place)), f"{clean[place]:.4g}", f"{moved[place]:.4g}", f"{change[place]:+.4g}")
        for place in places
    ]
    return {"changes": rows, "changed": int((sizes > 0).sum()), "features": int(sizes.size)}
