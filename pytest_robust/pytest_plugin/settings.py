"""What a run was asked for: command line, ini file and environment, read once and checked before anything runs."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pytest_robust.budget import Budget, parse_confidence, parse_floor, parse_margin
from pytest_robust.errors import ShardError
from pytest_robust.pytest_plugin.gating import Gating
from pytest_robust.pytest_plugin.options import GATES, INI_KEYS, NORMS, OPTIONS, PROFILES
from pytest_robust.shard import Shard
from pytest_robust.store.held import checked_id
from pytest_robust.store.shards import Shards

T = TypeVar("T")
REPORT_SUFFIXES = (".json", ".md", ".html")
JINJA_MISSING = "an HTML report needs jinja2; install it with: pip install 'pytest-robust[html]'"
_HINTS = {
    "robust_device": "a device belongs to a machine: use --robust-device, or the environment variable PYTEST_ROBUST_DEVICE",
    "robust_min_accuracy": "did you mean robust_fail_under?",
}
"""For keys that one may well expect, and whose name does not lead to what there is."""


@dataclass(frozen=True)
class Choices:
    """What one source (the command line; the ini file and environment) says about checks; None where it is silent."""

    eps: tuple[Budget, ...] | None = None
    norm: str | None = None
    profile: str | None = None
    attacks: tuple[str, ...] | None = None
    n: int | None = None
    seed: int | None = None
    fail_under: Fraction | None = None
    confidence: float | None = None
    device: str | None = None

    @property
    def silent(self) -> bool:
        """Nothing is said about what is checked; where it runs does not count."""
        return all(getattr(self, f.name) is None for f in fields(self) if f.name != "device")


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Attributes:
        gating: baselines and what fails.
        command_line: the options. configured: the ini file; for the device, which is a property of the machine, the
            environment. force: the command line wins over markers and call arguments.
        reports: absolute paths. model, data: ``PKG:ATTR`` of a check without a file.
        replay: the ID of the stored adversarial example that is put to the model in place of the checks. witness: the
            absolute path of the file to write it to.
        retrain: train what failed.
        shard: attack this share alone, without a verdict. merge: the shards to go on from.
        selfcheck: the attacks to check, none of them for the engine; None where no self-check is asked for.
        arguments: the robust options of this command line that change an outcome, and their values as one would type them
            again.
    """

    command_line: Choices
    configured: Choices
    force: bool
    gating: Gating
    reports: tuple[Path, ...]
    model: str | None
    data: str | None
    shard: Shard | None
    merge: Shards | None
    selfcheck: tuple[str, ...] | None
    replay: str | None
    witness: Path | None
    retrain: bool
    arguments: Mapping[str, str]

    @classmethod
    def read(cls, config: pytest.Config) -> Settings:
        """Read every option and ini key.

        Raises:
            pytest.UsageError: a value that cannot be used; the message names the option or key.
        """
        _refuse_unknown_keys(config)
        option = config.getoption
        model, data = option("robust_model"), option("robust_data")
        for name, value, other in (("model", model, "data"), ("data", data, "model")):
            if value is not None and ":" not in value.strip(":"):
                raise pytest.UsageError(f"--robust-{name} {value!r}: write PKG:ATTR, for example mypackage.nets:{name}")
            if value is not None and option(f"robust_{other}") is None:
                raise pytest.UsageError(f"--robust-{name} needs --robust-{other} as well")
        replay = _replay(config)
        return cls(
            command_line=_command_line(config),
            configured=_configured(config),
            force=option("robust_force"),
            # What the ini file says of gates is about evaluations, and a replay is none.
            gating=_gating(config) if replay is None else Gating(),
            reports=tuple(_report(config, path) for path in dict.fromkeys(option("robust_report") or ())),
            model=model,
            data=data,
            shard=_shard(config),
            merge=_merge(config),
            selfcheck=_selfcheck(config),
            replay=replay,
            witness=_witness(config),
            retrain=option("robust_retrain"),
            arguments=_arguments(config),
        )

    def first(self, name: str, *own: Any) -> Any:
        """The first answer by precedence: ``own`` (call, marker), command line, ini; None where all are silent."""
        typed, configured = getattr(self.command_line, name), getattr(self.configured, name)
        order = (typed, *own, configured) if self.force else (*own, typed, configured)
        return next((answer for answer in order if answer is not None), None)

    @property
    def silent(self) -> bool:
        """Nothing was asked for: neither an option nor an ini key."""
        asked = (self.model, self.selfcheck, self.shard, self.merge, self.gating.source, self.reports or None, self.replay)
        return self.command_line.silent and self.configured.silent and all(one is None for one in asked)


def _command_line(config: pytest.Config) -> Choices:
    def read(option: str, parse: Callable[[str], T]) -> T | None:
        dest = f"robust_{option.replace('-', '_')}"
        return _parsed(f"--robust-{option}", config.getoption(dest), parse)

    def read_all(option: str, parse: Callable[[str], T]) -> tuple[T, ...] | None:
        return _parsed_all(f"--robust-{option}", config.getoption(f"robust_{option}"), parse)

    return Choices(
        eps=read_all("eps", Budget.parse),
        norm=config.getoption("robust_norm"),
        profile=config.getoption("robust_profile"),
        attacks=read_all("attack", str),
        n=read("n", _count),
        seed=read("seed", _seed),
        fail_under=read("fail-under", parse_floor),
        confidence=read("confidence", parse_confidence),
        device=read("device", _device),
    )


def _configured(config: pytest.Config) -> Choices:
    def read(key: str, parse: Callable[[str], T]) -> T | None:
        value = _getini(config, key)
        return _parsed(f"ini option {key}", None if value is None else str(value), parse)

    def read_all(key: str, parse: Callable[[str], T]) -> tuple[T, ...] | None:
        values = _getini(config, key)
        # [tool.pytest.ini_options] hands the numbers of a list on as they are.
        return _parsed_all(f"ini option {key}", None if values is None else [str(value) for value in values], parse)

    return Choices(
        eps=read_all("robust_eps", Budget.parse),
        norm=read("robust_norm", lambda text: _one_of(NORMS, text)),
        profile=read("robust_profile", lambda text: _one_of(PROFILES, text)),
        attacks=read_all("robust_attacks", str),
        n=read("robust_n", _count),
        seed=read("robust_seed", _seed),
        fail_under=read("robust_fail_under", parse_floor),
        confidence=read("robust_confidence", parse_confidence),
        device=_parsed("environment variable PYTEST_ROBUST_DEVICE", os.environ.get("PYTEST_ROBUST_DEVICE") or None, _device),
    )


def _gating(config: pytest.Config) -> Gating:
    def read(name: str, parse: Callable[[str], T], *, option: bool = True) -> T | None:
        """The option's value, else that of the ini file."""
        typed = config.getoption(f"robust_{name}") if option else None
        found = _parsed(f"--robust-{name}", typed, parse)
        configured = _getini(config, f"robust_{name}")
        return found or _parsed(f"ini option robust_{name}", None if configured is None else str(configured), parse)

    return Gating.of(
        config,
        gate=read("gate", lambda text: _one_of(GATES, text)),
        folder=read("baseline_dir", str, option=False),
        margin=read("margin", parse_margin),
        clean_margin=read("clean_margin", parse_margin, option=False),
    )


def _refuse_unknown_keys(config: pytest.Config) -> None:
    """Raises UsageError for a key of ours that does not exist: pytest only warns, and a floor would be lost."""
    for key in _file(config):
        if key.startswith("robust") and key not in INI_KEYS:
            close = difflib.get_close_matches(key, INI_KEYS, n=1, cutoff=0.0)[0]
            where = config.inipath.name if config.inipath is not None else "the ini file"
            raise pytest.UsageError(f"{where}: there is no ini option {key}; {_HINTS.get(key, f'did you mean {close}?')}")


def _file(config: pytest.Config) -> Mapping[str, Any]:
    # pytest 9 has no public way to list what the file holds: ``inicfg`` warns there, and is the attribute of 8.
    return vars(config).get("_inicfg") or vars(config).get("inicfg") or {}


def _getini(config: pytest.Config, key: str) -> Any:
    # At the first read of a key of the wrong type pytest 8.4 raises TypeError or ValueError, pytest 9 UsageError.
    try:
        return config.getini(key)
    except (TypeError, ValueError, pytest.UsageError) as error:
        # Where a text such as "50%" may stand, [tool.pytest] may have a number.
        value = getattr(_file(config).get(key), "value", None)
        if INI_KEYS[key][0] == "string" and isinstance(value, (int, float)):
            return value
        raise pytest.UsageError(f"ini option {key}: {error}") from None


def _parsed(where: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    if text is None:
        return None
    if not text.strip():
        raise pytest.UsageError(f"{where}: the value is empty; leave it out, or give one")
    try:
        return parse(text)
    except ValueError as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def _parsed_all(where: str, texts: Sequence[str] | None, parse: Callable[[str], T]) -> tuple[T, ...] | None:
    if texts is None:
        return None
    if not texts:
        raise pytest.UsageError(f"{where}: the value is empty; leave it out, or give one")
    words = [word.strip() for text in texts for word in text.split(",")]
    if "" in words:
        raise pytest.UsageError(f"{where}: an empty item in {','.join(words)!r}")
    parsed = (_parsed(where, word, parse) for word in words)
    # Equal budgets, however typed, are one: two items of one id would be an error.
    return tuple(dict.fromkeys(item for item in parsed if item is not None))


def _count(text: str) -> int:
    number = _integer(text)
    if number < 1:
        raise ValueError(f"the number of examples must be at least 1, got {text!r}")
    return number


def _seed(text: str) -> int:
    number = _integer(text)
    if number < 0:
        raise ValueError(f"a seed must not be negative, got {text!r}")
    return number


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an integer") from None


def _device(text: str) -> str:
    """A device's name; whether this machine has it is seen when a check runs, for that takes torch."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text) is None:
        raise ValueError(f"{text!r} is not one of auto, cpu, cuda, cuda:1 (any number), mps")
    return text


def _one_of(names: tuple[str, ...], text: str) -> str:
    if text not in names:
        raise ValueError(f"{text!r} is not one of {', '.join(names)}")
    return text


def _report(config: pytest.Config, text: str) -> Path:
    path = config.invocation_params.dir / text
    if path.suffix not in REPORT_SUFFIXES:
        raise pytest.UsageError(f"--robust-report {text!r}: the suffix says the format, use {', '.join(REPORT_SUFFIXES)}")
    if path.suffix == ".html" and find_spec("jinja2") is None:
        raise pytest.UsageError(f"--robust-report {text!r}: {JINJA_MISSING}")
    if path.is_dir():
        raise pytest.UsageError(f"--robust-report {text!r} is a directory; name a file in it")
    return path


def _selfcheck(config: pytest.Config) -> tuple[str, ...] | None:
    """Raises UsageError where something else is asked for as well: it would not be done."""
    typed: str | None = config.getoption("robust_selfcheck")
    if typed is None:
        return None
    names = _parsed_all("--robust-selfcheck", [typed], str) if typed else ()
    given = not hasattr(config, "workerinput") and config.args_source is pytest.Config.ArgsSource.ARGS
    paths = [name for name in names or () if os.sep in name or name.endswith(".py")] or (config.args if given else [])
    if paths:
        raise pytest.UsageError(f"--robust-selfcheck runs alone, without test files: leave out {', '.join(paths)}")
    values = {name: config.getoption(f"robust_{name.replace('-', '_')}") for name in OPTIONS}
    others = [name for name, value in values.items() if value not in (None, False) and name not in ("selfcheck", "report")]
    if others:
        named = ", ".join(f"--robust-{name}" for name in others)
        raise pytest.UsageError(f"--robust-selfcheck runs alone, on problems of its own: leave out {named}")
    return names


def _replay(config: pytest.Config) -> str | None:
    """Raises UsageError where something is asked for as well that takes an evaluation."""
    id = _parsed("--robust-replay", config.getoption("robust_replay"), checked_id)
    others = [
        name for name in ("update", "baseline", "gate", "margin", "report", "retrain") if config.getoption(f"robust_{name}")
    ]
    # Without a value it is the empty text.
    others += ["baseline"] if config.getoption("robust_baseline") == "" else []
    if id is not None and others:
        named = ", ".join(f"--robust-{name}" for name in others)
        raise pytest.UsageError(
            f"--robust-replay looks at one stored example and evaluates nothing that could be compared, accepted or "
            f"reported: leave out {named}"
        )
    return id


def _witness(config: pytest.Config) -> Path | None:
    typed: str | None = config.getoption("robust_witness")
    if typed is None:
        return None
    path = config.invocation_params.dir / typed
    if config.getoption("robust_replay") is None:
        raise pytest.UsageError("--robust-witness writes the example that is replayed: name it with --robust-replay ID")
    if path.suffix != ".safetensors":
        raise pytest.UsageError(f"--robust-witness {typed!r}: the file is a safetensors file; end its name in .safetensors")
    if path.exists():
        raise pytest.UsageError(f"--robust-witness {typed!r} is there already; name another file, or remove this one first")
    return path


def _shard(config: pytest.Config) -> Shard | None:
    """Raises UsageError where what is asked for as well needs a verdict, which a shard has not."""
    shard = _parsed("--robust-shard", config.getoption("robust_shard"), Shard.parse)
    if shard is not None:
        for name in ("merge", "update", "report", "replay"):
            if config.getoption(f"robust_{name}"):
                raise pytest.UsageError(f"a shard has no verdict: leave out --robust-{name}, or --robust-shard")
    return shard


def _merge(config: pytest.Config) -> Shards | None:
    """Raises UsageError where the folders do not hold all the shards of one run."""
    folders = config.getoption("robust_merge")
    if not folders:
        return None
    if config.option.collectonly:
        raise pytest.UsageError("--robust-merge judges, --collect-only runs nothing: leave one out")
    try:
        return Shards.gathered([config.invocation_params.dir / folder for folder in folders])
    except ShardError as error:
        raise pytest.UsageError(f"--robust-merge: {error}") from None


def _arguments(config: pytest.Config) -> dict[str, str]:
    arguments = {}
    for name in ("model", "data", "eps", "norm", "profile", "attack", "n", "seed", "fail-under", "confidence"):
        value = config.getoption(f"robust_{name.replace('-', '_')}")
        if value is not None:
            arguments[f"--robust-{name}"] = ",".join(value) if isinstance(value, list) else str(value)
    return arguments | ({"--robust-force": ""} if config.getoption("robust_force") else {})
