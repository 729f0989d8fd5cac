"""The folder ``.robust``: finished and unfinished checks by what they are of, adversarial examples of the last runs."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_robust.errors import DamagedError
from pytest_robust.evaluation import Evaluation
from pytest_robust.evaluation.memory import SIGN, Arrays, Kept, prefixed, under
from pytest_robust.store import files
from pytest_robust.store.codec import decode, encode
from pytest_robust.store.runs import StoreWarning, check_file, give_up, make, recent_keys
from pytest_robust.whole_files import unwritten

_POINTS = 4
"""Adversarial examples tried per example: each costs a forward pass."""


class Folder:
    """``.robust`` of a project; git and others ignore it.

    Whatever is damaged in it is named in a warning, set aside, and made anew. Nothing here can change a verdict but for
    the better of truth: a finished check is taken only for the same model, data, threat, attack and code, and an
    adversarial example of an earlier run only where it is verified on the model at hand.

    Attributes:
        root: the folder. replayed: keys of the checks whose adversarial examples are tried first; fixed at the start, so
            that no check's outcome depends on which others ran before it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.replayed = tuple(recent_keys(root))
        self._corpus: dict[tuple[str, str, str], list[Tensor]] | None = None

    # -- finished checks

    def finished(self, key: str) -> tuple[Evaluation, Arrays] | None:
        """The check of this key, and what was kept with it to recognise its model by; None when there is none."""
        found = read_or_give_up(self._check(key))
        if found is None:
            return None
        content, arrays = found
        try:
            return decode(content, arrays), under(SIGN, arrays)
        except DamagedError as error:
            give_up(self._check(key), error)
            return None

    def finish(self, key: str, evaluation: Evaluation, sign: Arrays) -> None:
        """Keep a finished check, and what to recognise its model by."""
        content, arrays = encode(evaluation)
        self._write(self._check(key), content, arrays | prefixed(SIGN, sign))
        with suppress(OSError):
            self._unfinished(key).unlink(missing_ok=True)

    # -- unfinished ones

    def progress(self, key: str) -> Kept | None:
        """How far a check came that was interrupted."""
        return read_or_give_up(self._unfinished(key))

    def keep(self, key: str, content: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep how far a check has come."""
        self._write(self._unfinished(key), content, arrays)

    # -- adversarial examples of earlier runs

    def known(self, norm: str, space: str, ids: Sequence[str]) -> dict[str, list[Tensor]]:
        """Adversarial examples that earlier runs found for these content ids, the latest first, a few each."""
        if self._corpus is None:
            self._corpus = self._gathered()
        return {id: found for id in ids if (found := self._corpus.get((norm, space, id)))}

    def _gathered(self) -> dict[tuple[str, str, str], list[Tensor]]:
        corpus: dict[tuple[str, str, str], list[Tensor]] = defaultdict(list)
        for key in self.replayed:
            found = self.finished(key)
            if found is None:
                continue
            evaluation, _ = found
            for row, point in evaluation.witnesses.items():
                points = corpus[evaluation.threat.norm, evaluation.threat.space, evaluation.ids[row]]
                if len(points) < _POINTS and not any(torch.equal(point, other) for other in points):
                    points.append(point)
        return dict(corpus)

    # -- files

    def _check(self, key: str) -> Path:
        return check_file(self.root, key)

    def _unfinished(self, key: str) -> Path:
        return self.root / "unfinished" / f"{key}.safetensors"

    def _write(self, path: Path, content: Mapping[str, Any], arrays: Arrays) -> None:
        try:
            make(self.root)
            files.write_arrays(path, content, arrays)
        except OSError as error:
            text = f"{path} cannot be written ({unwritten(error)}): the next run starts this check anew"
            warnings.warn(StoreWarning(text), stacklevel=2)


def read_or_give_up(path: Path) -> Kept | None:
    """What the file holds; None where there is none, or it cannot be used, which is said, and it is set aside."""
    try:
        return files.read_arrays(path)
    except FileNotFoundError:
        return None
    except (OSError, DamagedError) as error:
        give_up(path, error)
        return None
