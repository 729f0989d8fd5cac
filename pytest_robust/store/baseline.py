"""Baselines: one committed JSON file per check, from the working tree or from a git revision."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_robust.errors import DamagedError, RobustError
from pytest_robust.regression import ACCURACY
from pytest_robust.store.git import git
from pytest_robust.whole_files import unwritten, write_whole

SCHEMA = 1
FOLDER = "robust-baseline"
_GIT = "git:"
_AGAIN = "pytest --robust-update writes it anew; look at what changed before you commit it"


class BaselineError(RobustError):
    """A baseline that cannot be found, read or written. The message names it, and what to do."""


@dataclass(frozen=True)
class Baseline:
    """What a check came to when it was accepted.

    Attributes:
        id: of the check, pytest's with its budget. tier: critical or advisory. key: of the finished check in ``.robust``.
        threat: norm, eps, value, space and bounds. attack: profile, names, seed and ``digest`` of all that it was, code
            included. data, model: digests.
        ids: content ids, sorted. clean, robust: for each, whether it was right without and under attack; of another metric
            than accuracy its value without edits, and with the worst.
        environment, commit: where it was made; for people.
    """

    id: str
    tier: str
    key: str | None
    threat: Mapping[str, Any]
    objective: str
    attack: Mapping[str, Any]
    data: str
    model: str | None
    ids: tuple[str, ...]
    clean: tuple[float, ...]
    robust: tuple[float, ...]
    environment: Mapping[str, str]
    commit: Mapping[str, Any] | None
    metric: str = ACCURACY

    def text(self) -> str:
        """The file's content: pretty, sorted, the same for the same baseline."""
        content = {
            "schema": SCHEMA,
            "check": {"id": self.id, "tier": self.tier, "key": self.key},
            "threat": dict(self.threat),
            "objective": self.objective,
            "attack": dict(self.attack),
            "data": {"digest": self.data, "n": len(self.ids)},
            "model": {"digest": self.model},
            "result": _result(self),
            # Six ids to a line: a change of the data shows where it is.
            "ids": textwrap.wrap(" ".join(self.ids), 6 * 17),
            "environment": dict(self.environment),
            "commit": self.commit,
        }
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, text: str) -> Baseline:
        """What ``text`` gave.

        Raises:
            DamagedError: it is no baseline, or of a schema that this version does not know.
        """
        try:
            c = json.loads(text)
            if c["schema"] != SCHEMA:
                raise DamagedError(f"schema {c['schema']}, where this version of pytest-robust knows {SCHEMA}")
            ids = tuple(" ".join(c["ids"]).split())
            check, metric = c["check"], c["result"].get("metric", ACCURACY)
            clean, robust = (_values(c["result"], name, metric, len(ids)) for name in ("clean", "robust"))
            told = c["result"]["clean"], c["result"]["robust"], c["data"]["n"]
            if (_sum(clean), _sum(robust), len(ids)) != told:
                raise DamagedError("its sums and what they are of do not agree: it was edited or cut off")
            return cls(
                check["id"], check["tier"], check["key"], c["threat"], c["objective"], c["attack"], c["data"]["digest"],
                c["model"]["digest"], ids, clean, robust, c["environment"], c["commit"], metric,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{type(error).__name__}: {error}") from None


@dataclass(frozen=True)
class Source:
    """Where baselines are read from.

    Attributes:
        root: the project. folder: of the baselines, relative to it or absolute. revision: of git; None: the working tree.
    """

    root: Path
    folder: Path
    revision: str | None = None

    @classmethod
    def named(cls, text: str, root: Path, folder: str | None = None) -> Source:
        """``PATH``, ``git:REF`` or, empty, the default folder.

        Raises:
            BaselineError: the folder or the revision does not exist.
        """
        default = Path(folder or FOLDER)
        if text.startswith(_GIT):
            revision = text.removeprefix(_GIT)
            source = cls(root, default, revision)
            if not revision or source._commit is None:
                raise BaselineError(
                    f"there is no git revision {revision!r} here; in CI, fetch it first: git fetch origin BRANCH"
                )
            return source
        source = cls(root, Path(text) if text else default)
        if not source.path.is_dir():
            raise BaselineError(
                f"there is no folder {source.path}; write the first baseline with pytest --robust-update, and commit it"
            )
        return source

    @property
    def path(self) -> Path:
        return self.root / self.folder

    def __str__(self) -> str:
        return self._label

    def file(self, id: str) -> Path:
        """Where the baseline of a check lies in the working tree."""
        return self.path / file_of(id)

    def named_file(self, id: str) -> str:
        """The same for people, and of a revision with its name."""
        return f"{self.revision + ':' if self.revision else ''}{self.folder / file_of(id)}"

    def find(self, id: str) -> Baseline | None:
        """The baseline of a check; None where it has none.

        Raises:
            BaselineError: it is there, and cannot be read.
        """
        return self._read(file_of(id))

    def all(self) -> list[Baseline]:
        """Every baseline there is, by file.

        Raises:
            BaselineError: one cannot be read.
        """
        return [found for name in self._names() if (found := self._read(name)) is not None]

    def write(self, baseline: Baseline) -> Path:
        """Write or refresh the baseline of a check; its file.

        Raises:
            BaselineError: it cannot be written.
        """
        path = self.file(baseline.id)
        try:
            write_whole(path, baseline.text().encode())
        except OSError as error:
            raise BaselineError(f"{path} cannot be written: {unwritten(error)}") from None
        return path

    def _read(self, name: Path) -> Baseline | None:
        text, where = self._text(name), self.path / name
        if text is None:
            return None
        try:
            return Baseline.read(text)
        except DamagedError as error:
            raise BaselineError(f"{self.revision + ':' if self.revision else ''}{where}: {error}; {_AGAIN}") from None

    def _text(self, name: Path) -> str | None:
        if self.revision is not None:
            # Of what is listed nothing may be silently absent.
            return self._git_or_raise("show", f"{self._commit}:./{self._posix(name)}") if name in self._names() else None
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BaselineError(f"{self.path / name} cannot be read: {error}; {_AGAIN}") from None

    def _names(self) -> Sequence[Path]:
        if self.revision is not None:
            return self._listed
        return sorted(path.relative_to(self.path) for path in self.path.rglob("*.json"))

    # Asked of git once, not for every check; and a branch that moves during the run does not move what it is held against.

    @cached_property
    def _commit(self) -> str | None:
        """That of the revision; None where there is no such revision."""
        found = self._git("rev-parse", "--verify", "--quiet", f"{self.revision}^{{commit}}")
        return None if found is None else found.strip()

    @cached_property
    def _listed(self) -> tuple[Path, ...]:
        listed = self._git_or_raise("ls-tree", "-r", "-z", "--name-only", f"{self._commit}", f"./{self._posix()}/")
        return tuple(Path(name).relative_to(self.folder) for name in listed.split("\0") if name.endswith(".json"))

    @cached_property
    def _label(self) -> str:
        if self.revision is None:
            return str(self.folder)
        short = (self._git("rev-parse", "--short", f"{self._commit}") or "").strip()
        return self.revision if short == self.revision else f"{self.revision}@{short}"

    def _posix(self, name: Path = Path()) -> str:
        if self.folder.is_absolute():
            raise BaselineError(
                f"the folder of baselines, {self.folder}, must be relative to the project to be read from git"
            )
        return (self.folder / name).as_posix()

    def _git_or_raise(self, *arguments: str) -> str:
        found = self._git(*arguments)
        if found is None:
            raise BaselineError(f"git {' '.join(arguments)} failed in {self.root}; try it there by hand")
        return found

    def _git(self, *arguments: str) -> str | None:
        """What git says; None where it fails."""
        try:
            return git(self.root, *arguments)
        except OSError as error:
            raise BaselineError(
                f"git cannot be run: {error.strerror or error}; it is needed for baselines of a revision"
            ) from None


def file_of(id: str) -> Path:
    """The file of a check, below the folder: ``tests/test_release/test_net-linf-8_255.json``."""
    path, _, name = id.partition("::")
    folders = [_safe(part) for part in path.removesuffix(".py").split("/") if part not in ("", ".", "..")]
    return Path(*folders) / f"{_safe(name or 'check')}.json"


def _safe(text: str) -> str:
    """A file name on every system."""
    return re.sub(r"[^A-Za-z0-9._=+#-]+", "_", text.replace("[", "-").replace("]", "").replace("::", "-")).strip(".") or "_"


def _result(baseline: Baseline) -> dict[str, Any]:
    """Of a count the bits, of a metric the values in ten-thousandths, in lines."""
    parts = {"clean": baseline.clean, "robust": baseline.robust}
    sums: dict[str, Any] = {name: _sum(values) for name, values in parts.items()}
    if baseline.metric == ACCURACY:
        return sums | {f"{name}_bits": _hex(values) for name, values in parts.items()}
    lines = {
        f"{name}_values": textwrap.wrap(" ".join(str(round(1e4 * value)) for value in values), 100)
        for name, values in parts.items()
    }
    return sums | lines | {"metric": baseline.metric}


def _values(result: Mapping[str, Any], name: str, metric: str, count: int) -> tuple[float, ...]:
    if metric == ACCURACY:
        return _bits(result[f"{name}_bits"], count)
    values = tuple(int(value) / 1e4 for value in " ".join(result[f"{name}_values"]).split())
    if len(values) != count or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"{len(values)} values for {count} texts, or not from 0 to 1")
    return values


def _sum(values: Sequence[float]) -> float:
    """A count of bits is whole."""
    return round(sum(values), 4)


def _hex(bits: Sequence[float]) -> str:
    """The bits, first to last, as hexadecimal digits; the last digit filled up with zeros."""
    text = "".join("1" if bit else "0" for bit in bits)
    text += "0" * (-len(text) % 4)
    return "".join(f"{int(text[i : i + 4], 2):x}" for i in range(0, len(text), 4))


def _bits(text: str, count: int) -> tuple[bool, ...]:
    bits = "".join(f"{int(digit, 16):04b}" for digit in text)
    if len(bits) != count + -count % 4 or "1" in bits[count:]:
        raise ValueError(f"{len(bits)} bits for {count} examples")
    return tuple(bit == "1" for bit in bits[:count])
