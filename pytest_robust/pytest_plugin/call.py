"""What a call of the fixture asks for, read together with the test's marker and the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from pytest_robust.budget import Budget, Number
from pytest_robust.errors import RobustError, ThreatError
from pytest_robust.pytest_plugin import marker
from pytest_robust.pytest_plugin.marker import Declared, Default, floor_of
from pytest_robust.pytest_plugin.options import DEFAULT_NORM, DEFAULT_PROFILE
from pytest_robust.pytest_plugin.settings import Settings

if TYPE_CHECKING:
    from pytest_robust.attacks import Attack
    from pytest_robust.threats import Threat

NO_BUDGET = (
    "this robust check has no budget; name one in the call, robust(model, data, eps='8/255'), "
    "or in the marker, @pytest.mark.robust(eps='8/255'), "
    "or for the run, pytest --robust-eps 8/255 (ini: robust_eps)"
)
NO_BUDGET_OF_MODEL = "the check of --robust-model has no budget; name one with --robust-eps 8/255 (ini: robust_eps)"


FIXTURE = "robust"


class CallError(RobustError, ValueError):
    """An argument of the call ``robust(...)`` that cannot be used."""


@dataclass(frozen=True)
class Asked:
    """What a call asks for.

    Attributes:
        said: by the call and by the marker, the closest first. chosen: the two together. options: for the engine.
    """

    model: Any
    threat: Threat
    said: tuple[Declared, ...]
    chosen: Declared
    options: dict[str, Any]

    def floors(self, budget: Budget) -> list[Fraction | None]:
        """Those asked for at this budget, the closest first."""
        return [floor_of(said.min_accuracy, budget) for said in self.said]

    @property
    def floors_by_budget(self) -> bool:
        return isinstance(self.chosen.min_accuracy, dict)


@dataclass(frozen=True)
class Reader:
    """Reads the calls of one test.

    Attributes:
        item: the test. settings, declared: what the run and the test's markers ask for.
        budget: the one that the test is parametrised with. registered: attacks that plugins have added.
    """

    item: pytest.Item
    settings: Settings
    declared: Declared
    budget: Budget | None
    registered: Mapping[str, Callable[[], Attack]]

    def asked(
        self,
        model: Any,
        threat: Threat | None,
        *,
        norm: str | None = None,
        eps: Number | Budget | None = None,
        bounds: Any = Default.BOUNDS,
        min_accuracy: Number | Mapping[Number, Number] | None = None,
        max_drop: Number | None = None,
        confidence: Number | None = None,
        attacks: str | Sequence[str | Attack] | None = None,
        n: int | None = None,
        profile: str | None = None,
        seed: int | None = None,
        device: str | None = None,
        objective: Any = None,
        batch_size: int | None = None,
        classes: Sequence[str] | None = None,
        normalize: Any = None,
        non_differentiable: Any = None,
        draws: int | None = None,
        waive: Mapping[str, str] | None = None,
        autocast: bool = False,
        min_ndcg: Number | None = None,
        min_consistency: Number | None = None,
    ) -> Asked:
        """What a call asks for, together with its marker and the run."""
        own = self._read(
            eps,
            norm=norm,
            bounds=bounds,
            min_accuracy=min_accuracy,
            max_drop=max_drop,
            confidence=confidence,
            attacks=attacks,
            n=n,
            profile=profile,
            waive=waive,
            draws=draws,
            min_ndcg=min_ndcg,
            min_consistency=min_consistency,
        )
        chosen, settings = own.over(self.declared), self.settings
        where = shared_device(settings.first("device", device) or "auto")
        adapted, threat = self._threat(model, threat, own, where, normalize, classes, non_differentiable)
        named = settings.first("attacks", chosen.attacks)
        options = {
            "objective": objective,
            "profile": settings.first("profile", chosen.profile) or DEFAULT_PROFILE,
            "attacks": None if named is None else [self._attack(attack) for attack in named],
            "n": settings.first("n", chosen.n),
            "seed": settings.first("seed", seed) or 0,
            "batch_size": batch_size,
            "device": where,
            "classes": classes,
            "normalize": None if adapted is not model else normalize,
            "non_differentiable": None if adapted is not model else non_differentiable,
            "draws": chosen.draws,
            "waive": chosen.waive,
            "autocast": autocast,
        }
        return Asked(adapted, threat, (own, self.declared), chosen, options)

    def budgets(
        self, budgets: Sequence[Number | Budget] | None, floors: Number | Mapping[Number, Number] | None
    ) -> tuple[Budget, ...] | None:
        """Those of a curve; those that have a floor where none are named.

        Raises:
            CallError: what is named is no budget, or a floor is for none of them.
        """
        try:
            if budgets is None:
                return marker.read_eps(floors) if isinstance(floors, Mapping) else None
            return marker.robust(eps=budgets, min_accuracy=floors).eps
        except ValueError as error:
            raise CallError(f"robust.curve(...): {error}") from None

    def _read(self, eps: Number | Budget | None, **said: Any) -> Declared:
        """What the call itself says.

        Args:
            said: as the marker takes it.

        Raises:
            CallError: an argument that cannot be used.
        """
        from pytest_robust.attacks import make

        try:
            own = marker.robust(**said)
            for attack in own.attacks or ():
                if isinstance(attack, str) and attack not in self.registered:
                    make(attack)
            # Not through the marker, which wants every floor to be for one of its budgets: one may serve several calls.
            return own if eps is None else replace(own, eps=(Budget.parse(eps),))
        except (TypeError, ValueError) as error:
            raise CallError(f"robust(...): {error}") from None

    def _attack(self, attack: str | Attack) -> str | Attack:
        return self.registered[attack]() if isinstance(attack, str) and attack in self.registered else attack

    def _threat(
        self,
        model: Any,
        threat: Threat | None,
        own: Declared,
        device: str,
        normalize: Any,
        classes: Sequence[str] | None,
        non_differentiable: Any,
    ) -> tuple[Any, Threat]:
        """The model and the threat; a threat from a norm and a budget depends on the space of the adapted model."""
        settings, typed = self.settings, self.settings.command_line
        if threat is not None:
            if not hasattr(threat, "budget"):
                raise CallError(
                    f"robust(...): the third argument is a {type(threat).__name__}, where a threat such as Linf('8/255') "
                    "may stand; give the data as one pair: robust(model, (inputs, labels))"
                )
            if own.norm is not None or own.eps is not None or own.bounds is not Default.BOUNDS:
                raise pytest.UsageError("give robust(...) either a threat, or norm, eps and bounds; not both")
            return model, self._forced(threat) if settings.force and (typed.eps or typed.norm) else threat
        from pytest_robust import models, threats

        budget = self._chosen_budget(own)
        adapted = models.adapt(
            model, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable
        )
        chosen = own.over(self.declared)
        limits = {} if chosen.bounds is Default.BOUNDS else {"bounds": chosen.bounds}
        if limits.get("bounds") is not None and adapted.space != "input":
            raise ThreatError(
                "bounds are given for a text model, whose words have none; leave bounds out, in the call and in the marker"
            )
        return adapted, threats.make(
            settings.first("norm", chosen.norm) or DEFAULT_NORM, budget, space=adapted.space, **limits
        )

    def _chosen_budget(self, own: Declared) -> Budget:
        forced = self.settings.command_line.eps if self.settings.force else None
        if own.eps is not None and forced is None:
            return own.eps[0]
        if self.budget is not None:
            return self.budget
        budgets: tuple[Budget, ...] | None = self.settings.first("eps", own.eps, self.declared.eps)
        if budgets is None:
            raise pytest.UsageError(NO_BUDGET_OF_MODEL if without_file(self.item) else NO_BUDGET)
        if len(budgets) > 1:
            several = ", ".join(map(str, budgets))
            raise pytest.UsageError(
                f"several budgets ({several}) need a test that takes the fixture robust as an argument, "
                "so that it can be run once for each"
            )
        return budgets[0]

    def _forced(self, threat: Threat) -> Threat:
        """The test's threat with the budget and the norm of the command line."""
        from pytest_robust import threats

        typed = self.settings.command_line
        if threat.space == "transform":
            raise pytest.UsageError(
                f"--robust-force cannot put a norm or an eps in place of {threat.norm} {threat.budget}, an image transform; "
                "drop --robust-norm and --robust-eps, or deselect this test"
            )
        budget = self._chosen_budget(Declared()) if typed.eps else threat.budget
        if typed.norm is None or typed.norm == threat.norm:
            return threat.with_eps(budget)
        if threat.space == "text" and typed.norm != threats.CharacterEdits.norm:
            raise pytest.UsageError(
                f"--robust-force cannot put the norm {typed.norm} in place of {threat.norm} {threat.budget}, edits of "
                "texts; drop --robust-norm, or deselect this test"
            )
        if getattr(threat, "mask", None) is not None:
            raise pytest.UsageError("--robust-force cannot change the norm of a threat with a mask; drop --robust-norm")
        return threats.make(typed.norm, budget, bounds=getattr(threat, "bounds", (0, 1)), space=threat.space)


def shared_device(spec: str) -> str:
    """With ``auto`` under xdist, the worker's share of several GPUs; else ``spec``."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if spec != "auto" or not worker.isdigit():
        return spec
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(worker) % count}" if count > 1 else spec


def budget_id(settings: Settings, marked: Declared, budget: Budget) -> str:
    """``linf-8/255``."""
    return f"{settings.first('norm', marked.norm) or DEFAULT_NORM}-{budget}"


def ungrouped(nodeid: str) -> str:
    """The id without the ``@GROUP`` that ``--dist loadgroup`` of xdist appends: with it a check would have no baseline.

    A function's name has no ``@``, a parameter's text, in brackets, may have one.
    """
    head, colons, name = nodeid.rpartition("::")
    at = name.rfind("@")
    return nodeid if at <= name.rfind("]") else f"{head}{colons}{name[:at]}"


def without_file(item: pytest.Item) -> bool:
    """Whether it is the check of ``--robust-model``."""
    return item.nodeid.startswith("robust::")
