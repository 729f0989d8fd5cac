"""``--robust-shard`` and ``--robust-merge``: the checks of a suite shared out among jobs, and judged when all have ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.errors import ShardError
from pytest_robust.pytest_plugin import memory
from pytest_robust.pytest_plugin.settings import Settings
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run
from pytest_robust.shard import Shard
from pytest_robust.store import shards
from pytest_robust.store.shards import Shards

if TYPE_CHECKING:
    from pytest_robust.evaluation import Evaluation
    from pytest_robust.evaluation.memory import Memory

_ALL: pytest.StashKey[Memory] = pytest.StashKey()
NO_VERDICT = "this shard has attacked its share; no verdict before all shards are merged"


def asked(settings: Settings) -> str | None:
    """What the engine is asked for: a shard, ``"merge"``, or neither."""
    return str(settings.shard) if settings.shard is not None else "merge" if settings.merge is not None else None


def memory_of(config: pytest.Config, settings: Settings) -> Memory:
    """Where checks are found again: ``.robust``, the folder of the shard, or those of all shards."""
    if settings.shard is None and settings.merge is None:
        return memory.folder(config)
    if _ALL not in config.stash:
        from pytest_robust.store.sharded import AllShards, OneShard

        if settings.merge is not None:
            config.stash[_ALL] = AllShards(memory.root(config), settings.merge)
        elif settings.shard is not None:
            config.stash[_ALL] = OneShard(_folder(config, settings.shard))
    return config.stash[_ALL]


def refuse(settings: Settings, id: str, what: str) -> None:
    """Raises UsageError for what cannot be shared out: a curve, whose rounds depend on one another, and a measure."""
    if settings.shard is not None or settings.merge is not None:
        raise pytest.UsageError(
            f"{id}: robust.{what}(...) cannot be shared out; deselect this test in the shards, and run it in a job of "
            "its own"
        )


def share(evaluation: Evaluation) -> Record:
    """What a shard has attacked of a check, and by which keys it is found again."""
    e = evaluation
    identity = e.identity
    assert identity is not None, "a check that cannot be identified is not shared out"
    attacked = sum(right and by != "undecided" for right, by in zip(e.correct.tolist(), e.broken_by, strict=True))
    digests = {name: getattr(identity, name) for name in ("attack", "data", "model")}
    return digests | {"key": identity.check, "n": len(e), "attacked": attacked, "broken": len(e.witnesses)}


def begin(config: pytest.Config, shard: Shard) -> None:
    """The shard begins: what an earlier run left is no longer complete.

    Raises:
        pytest.UsageError: its folder cannot be used.
    """
    try:
        shards.begin(_folder(config, shard))
    except OSError as error:
        raise pytest.UsageError(
            f"--robust-shard: {_folder(config, shard)} cannot be used: {error.strerror or error}"
        ) from None


def outcome(shard: Shard, shares: Mapping[str, Record], errors: Mapping[str, str], *, complete: bool) -> Run:
    """What a shard came to, as plain JSON values.

    Args:
        errors: by id, what went wrong. complete: no test is missing.
    """
    return {
        "shard": {"number": shard.number, "of": shard.of},
        "complete": complete and not errors,
        "checks": dict(sorted(shares.items())),
        "errors": dict(errors),
    }


def finish(config: pytest.Config, shard: Shard, outcome: Run) -> None:
    """Leave it in the folder of the shard.

    Raises:
        OSError: it cannot be written.
    """
    shards.finish(_folder(config, shard), outcome | {"arguments": _without_shard(config.invocation_params.args)})


def undecided(merge: Shards, run: Run) -> str | None:
    """Why the shards cannot be judged; None where each of their checks came to a result, or its test failed by another."""
    judged = {check["id"] for check in run["checks"]}
    failed = {check["nodeid"] for check in run["checks"] if check["verdict"] == "fail" and check["outcome"] == "failed"}
    errors = {error["id"]: error["message"] for error in run["errors"]}
    strange = [id for id, message in errors.items() if message.startswith(ShardError.__name__)]
    lost = [id for id, nodeid in merge.tests.items() if id not in judged and nodeid not in failed]
    if not strange and not lost:
        return None
    id = [*strange, *lost][0]
    return f"no verdict: {id}: {errors.get(id, 'the shards have this check, and here it came to no result')}"


def _folder(config: pytest.Config, shard: Shard) -> Path:
    return shards.folder_of(config.rootpath, shard)


def _without_shard(arguments: tuple[str | os.PathLike[str], ...]) -> list[str]:
    """The command line but for ``--robust-shard 3/16``."""
    words: list[Any] = [os.fspath(word) for word in arguments]
    kept = []
    while words:
        word = words.pop(0)
        if word == "--robust-shard":
            del words[:1]
        elif not word.startswith("--robust-shard="):
            kept.append(word)
    return kept
