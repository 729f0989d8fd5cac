"""What a shard of a suite leaves behind, in a folder of its own, and whether several make a whole. No torch here.

``robust-shards/3-of-16`` holds for each check how far its share came, and, written last, ``shard.json``: which these are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_robust.errors import ShardError
from pytest_robust.shard import Shard
from pytest_robust.store.runs import make
from pytest_robust.whole_files import write_whole

FOLDER, INDEX = "robust-shards", "shard.json"
SCHEMA = 1
_DIGESTS = {"model": "model", "data": "data", "attack": "threat, attacks, seed or code"}
"""Parts of the identity of a check, and what they are of."""


def folder_of(root: Path, shard: Shard) -> Path:
    """The folder of a shard of the project in ``root``."""
    return root / FOLDER / f"{shard.number}-of-{shard.of}"


def part_of(folder: Path, key: str) -> Path:
    """The file of a check in the folder of a shard."""
    return folder / f"{key}.safetensors"


def begin(folder: Path) -> None:
    """A shard begins anew: it is not complete. How far checks came that were interrupted stays.

    Raises:
        OSError: the folder cannot be used.
    """
    make(folder)
    (folder / INDEX).unlink(missing_ok=True)


def finish(folder: Path, index: Mapping[str, Any]) -> None:
    """Write the index; files of checks that it does not name go.

    Raises:
        OSError: it cannot be written, or the file of a check is not there.
    """
    parts = {part_of(folder, check["key"]) for check in index["checks"].values()}
    for part in parts:
        part.stat()
    write_whole(folder / INDEX, (json.dumps({"schema": SCHEMA, **index}, indent=1, sort_keys=True) + "\n").encode())
    for old in set(folder.glob("*.safetensors")) - parts:
        old.unlink(missing_ok=True)


@dataclass(frozen=True)
class Shards:
    """All shards of one run.

    Attributes:
        folders: of the shards, the first one first. keys, tests: by id of a check, its key and its test.
        arguments: of pytest, as the first shard was run, but for the shard.
    """

    folders: tuple[Path, ...]
    keys: Mapping[str, str]
    tests: Mapping[str, str]
    arguments: tuple[str, ...]

    @classmethod
    def gathered(cls, folders: Sequence[Path]) -> Shards:
        """The shards in these folders, in any order.

        Raises:
            ShardError: they are not all the shards of one run, each once and complete.
        """
        found = sorted(((_index(folder), folder) for folder in folders), key=lambda one: one[0]["shard"]["number"])
        shards = [Shard(**index["shard"]) for index, _ in found]
        of = {shard.of for shard in shards}
        if len(of) > 1:
            raise ShardError(f"these are shards of runs in {' and in '.join(map(str, sorted(of)))}; name those of one run")
        twice = [str(a) for a, b in pairwise(shards) if a == b]
        if twice:
            raise ShardError(f"shard {', '.join(twice)} is named twice; give each shard once")
        missing = sorted(set(range(1, shards[0].of + 1)) - {shard.number for shard in shards})
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            listed = ", ".join(f"{number}/{shards[0].of}" for number in missing[:5])
            raise ShardError(f"shard {listed}{more} is missing; run it, or name its folder")
        for index, folder in found:
            _check_complete(index, folder)
        first = found[0][0]["checks"]
        for (index, _), shard in zip(found, shards, strict=True):
            _check_same(first, shards[0], index["checks"], shard)
        if not first:
            raise ShardError("no shard has a robust check, so there is nothing to judge; select robust tests")
        keys, tests = ({id: check[name] for id, check in first.items()} for name in ("key", "nodeid"))
        return cls(tuple(folder for _, folder in found), keys, tests, tuple(found[0][0]["arguments"]))


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA:
            raise ShardError(f"{path}: schema {index['schema']}, where this version of pytest-robust knows {SCHEMA}")
        typed = [index["checks"], index["errors"], *index["checks"].values()]
        words = [*index["arguments"], *(check[name] for check in index["checks"].values() for name in ("key", "nodeid"))]
        shard = Shard.parse(f"{index['shard']['number']}/{index['shard']['of']}")
        if not (all(isinstance(one, dict) for one in typed) and all(isinstance(word, str) for word in words)):
            raise TypeError("values of another type")
        return {**index, "shard": vars(shard)}
    except FileNotFoundError:
        raise ShardError(
            f"{folder} is no folder of a shard that ended: there is no {INDEX} in it; run that shard again, or name "
            f"folders such as {FOLDER}/3-of-16"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{path} cannot be read ({type(error).__name__}: {error}); run that shard again") from None


def _check_complete(index: Mapping[str, Any], folder: Path) -> None:
    shard = Shard(**index["shard"])
    for id, message in index["errors"].items():
        raise ShardError(f"shard {shard} ended in an error, {id}: {message}; mend it, and run that shard again")
    if index["complete"] is not True:
        raise ShardError(f"shard {shard} was cut short; run it again")
    for id, check in index["checks"].items():
        part = part_of(folder, check["key"])
        if not part.is_file():
            raise ShardError(f"shard {shard} has no file of {id}: {part} is not there; run that shard again")


def _check_same(first: Mapping[str, Any], one: Shard, checks: Mapping[str, Any], other: Shard) -> None:
    """Whether two shards have the same checks."""
    for id in [*first, *checks]:
        if id not in checks or id not in first:
            has, lacks = (one, other) if id in first else (other, one)
            raise ShardError(
                f"shard {has} has the check {id}, shard {lacks} has not; run all shards with the same arguments"
            )
        if first[id]["key"] != checks[id]["key"]:
            differing = [what for name, what in _DIGESTS.items() if first[id].get(name) != checks[id].get(name)]
            what = " and ".join(differing) or "settings (floor, profile, waivers or the order of the data)"
            raise ShardError(f"{id}: {what} of shard {one} and shard {other} differ; run all shards on the same project")
