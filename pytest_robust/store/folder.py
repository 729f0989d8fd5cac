"""The folder ``.robust``: finished and unfinished checks by what they are of, and runs."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_robust.evaluation import Evaluation
from pytest_robust.evaluation.memory import Arrays, Kept
from pytest_robust.store import files
from pytest_robust.store.codec import decode, encode
from pytest_robust.store.files import DamagedError

NAME = ".robust"
_RUNS_KEPT, _RUNS_REPLAYED = 20, 3
_POINTS = 4
"""Adversarial examples tried per example: each costs a forward pass."""


class StoreWarning(UserWarning):
    """Something in the folder could not be used; the run goes on without."""


class Folder:
    """``.robust`` of a project; git and others ignore it.

    Whatever is damaged in it is named in a warning, set aside, and made anew. Nothing here can change a verdict but for
    the better of truth: a finished check is taken only for the same model, data, threat, attack and code, and an
    adversarial example of an earlier run only where it is verified on the model at hand.

    Attributes:
        root: the folder. replayed: keys of the checks whose adversarial examples are tried first; fixed at the start, so
            that no check's outcome depends on which others ran before it.
    """

    def __init__(self, root: Path, replayed: Sequence[str] | None = None) -> None:
        """``replayed``: the keys, where another process has fixed them; None: those of the last runs."""
        self.root = root
        self.replayed = tuple(self._recent() if replayed is None else replayed)
        self._corpus: dict[tuple[str, str, str], list[Tensor]] | None = None

    # -- finished checks

    def finished(self, key: str) -> tuple[Evaluation, Arrays] | None:
        """The check of this key, and what was kept with it to recognise its model by; None when there is none."""
        found = self._read(self._check(key))
        if found is None:
            return None
        content, arrays = found
        own = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_SIGN)}
        try:
            return decode(content, arrays), {name.removeprefix(_SIGN): array for name, array in own.items()}
        except DamagedError as error:
            self._give_up(self._check(key), error)
            return None

    def finish(self, key: str, evaluation: Evaluation, sign: Arrays) -> None:
        """Keep a finished check, and what to recognise its model by."""
        content, arrays = encode(evaluation)
        self._write(self._check(key), content, arrays | {_SIGN + name: array for name, array in sign.items()})
        with suppress(OSError):
            self._unfinished(key).unlink(missing_ok=True)

    # -- unfinished ones

    def progress(self, key: str) -> Kept | None:
        """How far a check came that was interrupted."""
        return self._read(self._unfinished(key))

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

    # -- runs

    def add_run(self, name: str, run: Mapping[str, Any]) -> Path:
        """Keep a run as ``runs/NAME.json``; the oldest go, and with them the checks that no run names any more.

        Raises:
            OSError: it cannot be written.
        """
        self._make()
        path = self.root / "runs" / f"{name}.json"
        files.write_whole(path, (json.dumps(run, sort_keys=True) + "\n").encode())
        paths = self.runs()
        for old in paths[_RUNS_KEPT:]:
            old.unlink(missing_ok=True)
        named = {key for kept in paths[:_RUNS_KEPT] for key in self._keys(kept)}
        for check in (self.root / "checks").glob("*.safetensors"):
            if check.stem not in named:
                check.unlink(missing_ok=True)
        return path

    def runs(self) -> list[Path]:
        """The files of the runs kept, the latest first."""
        return sorted((self.root / "runs").glob("*.json"), key=lambda path: path.name, reverse=True)

    def artifact(self, key: str) -> Path:
        """The file of a finished check."""
        return self._check(key)

    def _recent(self) -> list[str]:
        return list(dict.fromkeys(key for path in self.runs()[:_RUNS_REPLAYED] for key in self._keys(path)))

    def _keys(self, path: Path) -> list[str]:
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            return [check["key"] for check in run["checks"] if check.get("key")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._give_up(path, error)
            return []

    # -- files

    def _check(self, key: str) -> Path:
        return self.root / "checks" / f"{key}.safetensors"

    def _unfinished(self, key: str) -> Path:
        return self.root / "unfinished" / f"{key}.safetensors"

    def _read(self, path: Path) -> Kept | None:
        try:
            return files.read_arrays(path)
        except FileNotFoundError:
            return None
        except (OSError, DamagedError) as error:
            self._give_up(path, error)
            return None

    def _write(self, path: Path, content: Mapping[str, Any], arrays: Arrays) -> None:
        try:
            self._make()
            files.write_arrays(path, content, arrays)
        except OSError as error:
            self._warn(f"{path} cannot be written ({error.strerror or error}): the next run starts this check anew")

    def _give_up(self, path: Path, error: Exception) -> None:
        aside = ""
        with suppress(OSError):
            aside = f", and is kept as {files.set_aside(path).name}" if path.is_file() else ""
        self._warn(f"{path} cannot be used{aside}: {error}")

    @staticmethod
    def _warn(text: str) -> None:
        warnings.warn(StoreWarning(text), stacklevel=2)

    def _make(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.is_file():
            files.write_whole(ignore, b"# Made by pytest-robust: what it found, to be found again. May be deleted.\n*\n")


_SIGN = "sign."
