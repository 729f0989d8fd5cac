"""An evaluation against an earlier one of the same check: example by example, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_robust.budget import Number, parse_confidence, parse_margin
from pytest_robust.evaluation.result import Evaluation
from pytest_robust.regression import ACCURACY, ALIKE, Change, Comparison, Paired, PairedMeans, under_schedule, untried
from pytest_robust.threats.summary import ThreatSummary


@dataclass(frozen=True)
class Outcomes:
    """What a comparison needs to know of an evaluation: what was asked, and one bit per example for each answer.

    Or of a metric under random edits: one value from 0 to 1 per text.

    Attributes:
        ids: content ids, in any order; equal ids are told apart by their order. clean, robust: for each, right without
            attack, and under every attack; of a metric the value without edits, and with the worst.
        threat, objective, seed: what was run. schedule: the attacks asked for, with their parameters.
        digest: of threat, objective, seed, attacks and the code that ran them, whatever the texts do not say included; None
            where it is not known, and then nothing can be compared.
        model: digest of the model, where it is known.
        undecided: examples of which it is not known whether the schedule breaks them: the verdict was certain before their
            turn, or an adversarial example of an earlier run broke them first.
        doubt: why ``robust`` is no evidence, where health says so. metric: what the values are.

    Raises:
        ValueError: there are not as many outcomes as ids, or none.
    """

    ids: tuple[str, ...]
    clean: tuple[float, ...]
    robust: tuple[float, ...]
    threat: ThreatSummary
    objective: str
    seed: int
    schedule: tuple[str, ...]
    digest: str | None
    model: str | None = None
    undecided: int = 0
    doubt: str | None = None
    metric: str = ACCURACY

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.clean) == len(self.robust) > 0:
            raise ValueError(
                f"one outcome per example, and at least one: got {len(self.ids)} ids, {len(self.clean)} clean, "
                f"{len(self.robust)} robust"
            )

    @classmethod
    def of(cls, evaluation: Evaluation) -> Outcomes:
        """Those of an evaluation, under the schedule alone."""
        e = evaluation
        return cls(
            ids=e.ids,
            clean=tuple(e.correct.tolist()),
            robust=under_schedule(e.robust.tolist(), e.broken_by),
            threat=e.threat,
            objective=e.objective,
            seed=int(e.seed),
            schedule=e.schedule,
            digest=None if e.identity is None else e.identity.attack,
            model=None if e.identity is None else e.identity.model,
            undecided=len(e) - e.decided + untried((stage.attack for stage in e.stages), e.broken_by),
            doubt=e.doubt,
        )


def compare(
    old: Evaluation | Outcomes | None,
    new: Evaluation | Outcomes | None,
    *,
    margin: Number = 0.02,
    clean_margin: Number = 0.01,
    confidence: Number = 0.90,
) -> Comparison:
    """Has robust or clean accuracy dropped? Paired, on the same examples under the same attacks, or ``incomparable``.

    A stronger attack lowers the robust accuracy of any model, and other examples are another question: whatever differs is
    named, and nothing is compared. Of an evaluation that stopped early robust accuracy is not compared: who had their turn
    depends on the outcomes, so those decided on both sides are no fair sample. Nor is it where health says that it is no
    evidence; only a drop found stays one when it is the new evaluation that is in doubt, for what is broken is proved.

    Args:
        old, new: evaluations, or what is stored of them. None: there is none, ``new`` or ``missing``.
        margin, clean_margin: the drop of robust and of clean accuracy that would be too much: ``0.02``, ``"2%"``, ``"2pt"``.
            A ``max_drop`` of a check is its own margin.
        confidence: of the two-sided interval; at 0.90 either error is made in one of twenty cases at most.

    Raises:
        ValueError: an argument that cannot be used, or neither ``old`` nor ``new``.
    """
    most, clean_most, sure = parse_margin(margin), parse_margin(clean_margin), parse_confidence(confidence)
    before, now = (Outcomes.of(side) if isinstance(side, Evaluation) else side for side in (old, new))
    if before is None and now is None:
        raise ValueError("there is nothing to compare: give an old evaluation, a new one, or both")
    if before is None:
        return Comparison(unlike="new", reasons=("there is no baseline",))
    if now is None:
        return Comparison(unlike="missing", reasons=("there is a baseline, but no result",))
    differing = (*_differences(before, now), *_other_data(before.ids, now.ids))
    if differing:
        return Comparison(unlike="incomparable", reasons=differing)
    metric = now.metric

    same = before.model is not None and before.model == now.model
    rows = _places(before.ids)
    pairs = [(rows[place], row) for place, row in _places(now.ids).items()]

    def change(was: Sequence[float], is_: Sequence[float], most: float) -> Change:
        return Change(_paired([(was[i], is_[j]) for i, j in pairs], metric), most, sure, same_model=same)

    clean = None if metric in ALIKE else change(before.clean, now.clean, clean_most)
    robust = change(before.robust, now.robust, most)
    unknown = tuple(_unknown(before, now, robust))
    if unknown:
        return Comparison(None, clean, "incomparable", unknown, metric)
    return Comparison(robust, clean, metric=metric)


def _paired(pairs: Sequence[tuple[float, float]], metric: str) -> Paired | PairedMeans:
    """Of the old and the new value of each example."""
    if metric != ACCURACY:
        return PairedMeans.of(pairs)
    turned = Counter(pairs)
    return Paired(len(pairs), turned[True, False], turned[False, True])


def _differences(before: Outcomes, now: Outcomes) -> Iterator[str]:
    """What was not the same, apart from the data."""
    old, new = before.threat, now.threat
    facts: tuple[tuple[str, object, object], ...] = (
        ("metric differs", before.metric, now.metric),
        ("norm differs", old.norm, new.norm),
        ("eps differs", old.eps, new.eps),
        ("space differs", old.space, new.space),
        ("bounds differ", old.bounds, new.bounds),
        ("objective differs", before.objective, now.objective),
        ("seed differs", before.seed, now.seed),
        ("attacks differ", _less(before.schedule, now.schedule), _less(now.schedule, before.schedule)),
    )
    differing = [f"{what}: {was} in the baseline, {is_} now" for what, was, is_ in facts if was != is_]
    yield from differing
    if before.digest is None or now.digest is None:
        whose = "the baseline" if before.digest is None else "the new evaluation"
        yield (
            f"what the attacks of {whose} were cannot be told: it is a point of a curve, or something in them has neither "
            "source nor plain values"
        )
    elif before.digest != now.digest and not differing:
        yield (
            "something in threat or attacks differs that has no name here: a mask, bounds of single features, the order of "
            "the attacks, or the version of pytest-robust or torch; evaluate the old model once more"
        )


def _less(schedule: Sequence[str], other: Sequence[str]) -> str:
    return ", ".join(step for step in schedule if step not in other) or "no others"


def _other_data(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    old, new = Counter(before), Counter(now)
    added, gone = (new - old).total(), (old - new).total()
    if added:
        yield f"{added} of {len(now)} examples are not in the baseline"
    if gone:
        yield f"{gone} of the baseline's {len(before)} examples are not there any more"


def _places(ids: Iterable[str]) -> dict[tuple[str, int], int]:
    """The row of each id; where it occurs again, of its first, second, ... occurrence."""
    seen: Counter[str] = Counter()
    rows = {}
    for row, id in enumerate(ids):
        rows[id, seen[id]] = row
        seen[id] += 1
    return rows


def _unknown(before: Outcomes, now: Outcomes, robust: Change) -> Iterator[str]:
    """Why robust accuracy cannot be compared."""
    for whose, side in (("the baseline", before), ("the new evaluation", now)):
        if side.undecided:
            yield (
                f"the attacks of {whose} did not decide {side.undecided} of {len(side.ids)} examples; use stop_early=False "
                "or profile='release', and with a memory replay='last'"
            )
        # What is broken is proved, whatever else the new evaluation missed.
        elif side.doubt is not None and not (side is now and robust.verdict == "regressed"):
            yield f"the robust accuracy of {whose} is no evidence: {side.doubt}"
