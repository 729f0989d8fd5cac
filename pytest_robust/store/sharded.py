"""The memories of an evaluation in shards: that of one shard, and that of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pytest_robust.errors import DamagedError, ShardError
from pytest_robust.evaluation import Evaluation
from pytest_robust.evaluation.memory import Arrays, Kept
from pytest_robust.evaluation.sharding import merged
from pytest_robust.store import files
from pytest_robust.store.folder import Folder, read_or_give_up
from pytest_robust.store.shards import Shards, part_of


class OneShard:
    """The folder of a shard: it only knows how far its own checks came."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def finished(self, key: str) -> tuple[Evaluation, Arrays] | None:
        return None

    def finish(self, key: str, evaluation: Evaluation, sign: Arrays) -> None:
        """Nothing: a share is no finished check."""

    def progress(self, key: str) -> Kept | None:
        return read_or_give_up(part_of(self.root, key))

    def keep(self, key: str, content: Mapping[str, Any], arrays: Arrays) -> None:
        """Raises ShardError where it cannot be written: without it the share is lost."""
        path = part_of(self.root, key)
        try:
            files.write_arrays(path, content, arrays)
        except OSError as error:
            raise ShardError(f"{path} cannot be written: {error.strerror or error}") from None

    def known(self, norm: str, space: str, ids: Sequence[str]) -> Mapping[str, list[Tensor]]:
        # What earlier runs found is tried once, on all survivors, when the shards are merged.
        return {}


class AllShards(Folder):
    """``.robust``, in which every check has come as far as its shards have."""

    def __init__(self, root: Path, shards: Shards) -> None:
        super().__init__(root)
        self._shards = shards

    def progress(self, key: str) -> Kept:
        """What all shards came to.

        Raises:
            ShardError: they do not have the check, or it is damaged, or they make no whole.
        """
        if key not in self._shards.keys.values():
            raise ShardError(
                "the shards do not have this check as it is here: its test was not run there, or its model, data, threat, "
                "attacks, seed, floor or settings, or the version of pytest-robust or torch, were others"
            )
        try:
            return merged([files.read_arrays(part_of(folder, key)) for folder in self._shards.folders])
        except (OSError, DamagedError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ShardError(f"what the shards came to cannot be read ({error}); run that shard again") from None

    def keep(self, key: str, content: Mapping[str, Any], arrays: Arrays) -> None:
        """Nothing: how far it came lies in the folders of the shards."""
