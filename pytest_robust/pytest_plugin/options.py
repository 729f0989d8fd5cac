"""The command line options and ini keys: their names, help and types. What they mean is in ``settings``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

import pytest

NORMS = ("linf", "l2", "l1", "l0", "characters")
PROFILES = ("smoke", "standard", "release")
GATES = ("off", "no-regression", "release")
DEFAULT_NORM, DEFAULT_PROFILE = "linf", "standard"


class _Spec(TypedDict, total=False):
    action: str
    nargs: str
    const: str
    metavar: str
    choices: Sequence[str]
    help: str


# Every option keeps the text that was typed: texts travel to xdist workers, and are read once, in ``Settings.read``.
_OPTIONS: dict[str, _Spec] = {
    "eps": {
        "action": "append",
        "metavar": "EPS[,EPS..]",
        "help": "budget(s) for checks that name none, in the units of the model's input: 8/255, 0.03, for text 2%%norm; "
        "with several, every robust test that names none runs once for each",
    },
    "norm": {
        "choices": NORMS,
        "help": "norm for checks that name none; characters counts typing errors in texts (default: linf)",
    },
    "profile": {
        "choices": PROFILES,
        "help": "how much attack on how much data: smoke = seconds, no evidence; standard = full strength, stops when the "
        "verdict is certain; release = full strength on every example (default: standard)",
    },
    "attack": {
        "action": "append",
        "metavar": "NAME[,NAME..]",
        "help": "replace the profile's attacks, for example apgd-ce,apgd-dlr",
    },
    "n": {
        "metavar": "N",
        "help": "number of examples: a subset with the classes in proportion, chosen by content (default: the profile's)",
    },
    "seed": {"metavar": "N", "help": "base seed of the attacks and of the subset (default: 0)"},
    "device": {
        "metavar": "SPEC",
        "help": "auto, cpu, cuda, cuda:1 or mps; with auto, xdist workers share the GPUs out (default: the environment "
        "variable PYTEST_ROBUST_DEVICE, else auto)",
    },
    "fail-under": {
        "metavar": "ACC",
        "help": "lowest robust accuracy allowed, for checks without a floor: 0.4 or 40%% (default: none, report only)",
    },
    "confidence": {
        "metavar": "C",
        "help": "decide checks with a floor on a growing random sample, as soon as it says with this confidence on which "
        "side of the floor all examples lie: 0.99 (default: count them; release always does)",
    },
    "force": {"action": "store_true", "help": "the options of this command line win over markers and call arguments"},
    "baseline": {
        "nargs": "?",
        "const": "",
        "metavar": "PATH|git:REF",
        "help": "compare each check with its baseline in this folder, or as committed in this git revision; without a value "
        "in robust-baseline/. Where a test path follows, write --robust-baseline=PATH. Every example is then decided",
    },
    "update": {
        "action": "store_true",
        "help": "write or refresh the baselines of the checks that ran and met their floor",
    },
    "gate": {
        "choices": GATES,
        "help": "no-regression = a missed floor or a regression against the baseline fails; release = as well what is "
        "inconclusive, new, missing, not comparable, skipped or not trusted (default: no-regression with a baseline, "
        "else off)",
    },
    "margin": {
        "metavar": "PT",
        "help": "drop of robust accuracy against the baseline that is too much: 2pt, 0.02 (default: 2pt)",
    },
    "replay": {
        "metavar": "ID",
        "help": "only this stored adversarial example: is it still broken? Its number as the report shows it (417), or its "
        "content id or the first six digits of it or more; attacks nothing",
    },
    "witness": {
        "metavar": "PATH",
        "help": "with --robust-replay: write the adversarial example to this .safetensors file, for a permanent test",
    },
    "shard": {
        "metavar": "I/N",
        "help": "attack the I-th of N shares of the examples of every check, and leave what it came to in "
        "robust-shards/I-of-N: no verdict, that comes when all N are merged (pytest-robust merge)",
    },
    "merge": {
        "action": "append",
        "metavar": "FOLDER",
        "help": "go on from what the shard in this folder came to, to the verdict; to be repeated for each shard. "
        "pytest-robust merge robust-shards/* does it",
    },
    "report": {
        "action": "append",
        "metavar": "PATH",
        "help": "write a report, .json, .md or .html by its suffix; may be repeated",
    },
    "retrain": {
        "action": "store_true",
        "help": "after its verdict, train a model that missed its floor adversarially, on what the fixture robust_trainer "
        "or train_data= names, and save it in .robust/retrained; changes neither the verdict nor the model under test",
    },
    "model": {
        "metavar": "PKG:ATTR",
        "help": "check this model with no test file: an object, or a function or class to be called without arguments; "
        "needs --robust-data, and --robust-fail-under to be a gate; adds to the tests collected, -m robust runs it without "
        "the others",
    },
    "data": {
        "metavar": "PKG:ATTR",
        "help": "the data for --robust-model: an object such as (inputs, labels), or a function",
    },
    "selfcheck": {
        "nargs": "?",
        "const": "",
        "metavar": "ATTACK[,ATTACK..]",
        "help": "run the checks with known answers and nothing else, of the engine or of these attacks; takes no test paths",
    },
}


OPTIONS = tuple(_OPTIONS)

INI_KEYS: dict[str, tuple[Literal["string", "args", "int"], str]] = {
    "robust_eps": ("args", 'as --robust-eps, a list: ["4/255", "8/255"]'),
    "robust_norm": ("string", "as --robust-norm"),
    "robust_profile": ("string", "as --robust-profile"),
    "robust_attacks": ("args", "as --robust-attack, a list of names"),
    "robust_n": ("int", "as --robust-n, an integer"),
    "robust_seed": ("int", "as --robust-seed, an integer"),
    "robust_fail_under": ("string", 'as --robust-fail-under, 0.4 or "40%"'),
    "robust_margin": ("string", "as --robust-margin"),
    "robust_clean_margin": ("string", "the same for accuracy without attack (default: 1pt)"),
    "robust_gate": ("string", "as --robust-gate"),
    "robust_baseline_dir": ("string", "folder of the baselines, relative to the root (default: robust-baseline)"),
    "robust_confidence": ("string", 'as --robust-confidence, 0.99 or "99%"'),
}


def add_options(parser: pytest.Parser) -> None:
    """Declare the options, group "adversarial robustness", and the ini keys.

    The ini keys are flat and typed: ``[tool.pytest]`` checks the type, ``[tool.pytest.ini_options]`` reads text.
    """
    group = parser.getgroup("robust", "adversarial robustness (pytest-robust)")
    for name, spec in _OPTIONS.items():
        group.addoption(f"--robust-{name}", dest=f"robust_{name.replace('-', '_')}", **spec)
    for key, (kind, text) in INI_KEYS.items():
        parser.addini(key, text, type=kind, default=None)
