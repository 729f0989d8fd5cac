"""An evaluation as plain JSON values and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import torch

from pytest_robust.data.examples import Text
from pytest_robust.errors import DamagedError
from pytest_robust.evaluation import Evaluation
from pytest_robust.evaluation.memory import Arrays, pack, unpack
from pytest_robust.evaluation.result import Cost, Health, HealthCheck, Identity, Stage, Weakest
from pytest_robust.evaluation.sequential import Sample
from pytest_robust.store.files import SHOWN
from pytest_robust.threats import ThreatSummary

_ARRAYS = ("labels", "correct", "robust", "predicted", "passes")
_AS_THEY_ARE = ("name", "model", "objective", "profile", "seed", "device", "bound")


def encode(evaluation: Evaluation) -> tuple[dict[str, Any], Arrays]:
    """The evaluation, whole: ``decode`` gives an equal one."""
    e = evaluation
    content = {name: getattr(e, name) for name in _AS_THEY_ARE} | {
        "seed": int(e.seed),
        "threat": asdict(e.threat),
        "attacks": list(e.attacks),
        "schedule": list(e.schedule),
        "ids": list(e.ids),
        "classes": None if e.classes is None else list(e.classes),
        "broken_by": list(e.broken_by),
        "floor": None if e.floor is None else str(e.floor),
        "stages": [asdict(stage) for stage in e.stages],
        "health": [asdict(check) for check in e.health.checks],
        "cost": asdict(e.cost),
        "notes": list(e.notes),
        "sample": None if e.sample is None else asdict(e.sample),
        "weakest": None if e.weakest is None else asdict(e.weakest),
        "identity": None if e.identity is None else asdict(e.identity),
        "cached": e.cached,
        "shown": list(e.shown),
        "changed": [[row, *pair] for row, pair in e.changed.items()],
    }
    shown = {f"{SHOWN}{row}": pair.numpy() for row, pair in e.shown.items()}
    return content, {name: getattr(e, name) for name in _ARRAYS} | pack(e.witnesses) | shown


def decode(content: Mapping[str, Any], arrays: Arrays) -> Evaluation:
    """What ``encode`` was given.

    Raises:
        DamagedError: a part is missing or is no part of an evaluation.
    """
    c = content
    try:
        return Evaluation(
            **{name: c[name] for name in _AS_THEY_ARE} | {name: arrays[name] for name in _ARRAYS},
            threat=ThreatSummary(**c["threat"]),
            attacks=tuple(c["attacks"]),
            schedule=tuple(c["schedule"]),
            ids=tuple(c["ids"]),
            classes=None if c["classes"] is None else tuple(c["classes"]),
            broken_by=tuple(c["broken_by"]),
            floor=None if c["floor"] is None else Fraction(c["floor"]),
            stages=tuple(map(Stage.of, c["stages"])),
            health=Health(tuple(HealthCheck(**check) for check in c["health"])),
            cost=Cost(**c["cost"]),
            notes=tuple(c["notes"]),
            sample=None if c["sample"] is None else Sample(**c["sample"]),
            weakest=None if c["weakest"] is None else Weakest(**c["weakest"]),
            identity=None if c["identity"] is None else Identity(**c["identity"]),
            cached=c["cached"],
            witnesses=unpack(arrays),
            shown={row: torch.from_numpy(arrays[f"{SHOWN}{row}"]) for row in c["shown"]},
            changed={row: (_text(clean), _text(changed)) for row, clean, changed in c["changed"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from None


def _text(value: str | list[str]) -> Text:
    """JSON knows no tuple: a pair of texts comes back as a list."""
    return value if isinstance(value, str) else tuple(value)
