"""Searches that the schedule does not have: on a few survivors, and where they break some, on all who stand."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_robust.attacks import PGD, Attack, EditSearch, Square, Sweep
from pytest_robust.evaluation.result import HealthCheck, Stage
from pytest_robust.levels import Level


@dataclass(frozen=True)
class Beyond:
    """A search beyond the schedule.

    Attributes:
        probe: what a sample of the survivors gets. remedy: what all who stand get where the probe found something.
        ahead: it got farther than the attacks where it wore down so much more of the clean margin.
        least, most: size of the sample. share: of the attacks' passes, which the sample may take between these.
    """

    probe: Attack
    remedy: Attack
    ahead: float
    least: int
    most: int
    share: float

    def sample(self, spent: int) -> int:
        """How many survivors the probe sees, after attacks that took so many passes."""
        attack = self.probe
        runs = attack.n_restarts * max(1, attack.n_targets)
        passes = runs * (attack.n_steps * (2 if attack.uses_gradients else 1) + 1)
        return max(self.least, min(self.most, int(self.share * spent) // passes))


@dataclass(frozen=True)
class Found:
    """What a search beyond the schedule came to.

    Attributes:
        sample: survivors searched. broken: of these, broken. ahead: those where it got farther than the attacks.
        missed: what the remedy found on all who stood then, where it was needed.
    """

    sample: int
    broken: int
    ahead: int
    missed: Stage | None = None

    @property
    def mostly_ahead(self) -> bool:
        """Whether it got farther than the attacks on at least three, and more than half."""
        return self.ahead >= 3 and self.ahead > 0.5 * self.sample

    def more_than(self, share: float) -> bool:
        """Whether probe or remedy broke at least three, and more than this share."""
        counts = [(self.broken, self.sample), *([(self.missed.broken, self.missed.attacked)] if self.missed else [])]
        return any(broken >= 3 and broken > share * of for broken, of in counts)

    @property
    def rest(self) -> str:
        """What the remedy found, in words."""
        if self.missed is None:
            return ""
        return f"; let loose on all, the search broke {self.missed.broken} of the {self.missed.attacked} others"


_LONGER = PGD("margin", n_steps=40, step_size=1.0, schedule="cosine", momentum=0.25, random_start=False, n_restarts=2)
CONVERGENCE = Beyond(
    replace(_LONGER, label="pgd-probe"), replace(_LONGER, label="pgd-all"), ahead=0.1, least=16, most=32, share=0.08
)


def convergence(found: Found) -> HealthCheck:
    """Does a longer search of our own break what the attacks that the user chose could not?

    Their steps may be too few, or of a size that leads nowhere: more iterations must not break more (Carlini et al., "On
    evaluating adversarial robustness", 2019). Where it breaks none, it must not come much closer on most either.
    """
    if not found.broken and not found.mostly_ahead:
        return HealthCheck("convergence", "trusted", f"a longer search broke none of {found.sample} survivors")
    level: Level = "invalid" if found.more_than(0.1) else "suspicious"
    detail = (
        f"a longer search broke {found.broken} of {found.sample} survivors of the attacks that were asked for, and came "
        f"much closer on {found.ahead}{found.rest}: they take too few steps, or steps of a wrong size (step_size is a share "
        "of eps); leave attacks out for those of the profile"
    )
    return HealthCheck("convergence", level, detail)


_QUERIES = 100
BLACK_BOX = Beyond(
    Square(n_steps=_QUERIES, label="square-probe"), Square(n_steps=5 * _QUERIES, label="square-all"),
    ahead=0.01, least=8, most=64, share=0.07,
)  # fmt: skip
FEW = Beyond(
    Sweep(n_steps=_QUERIES, label="sweep-probe"), Sweep(n_steps=5 * _QUERIES, label="sweep-all"),
    ahead=0.01, least=16, most=64, share=0.07,
)  # fmt: skip
"""In place of the black box where a point has few numbers, of which the other would try the corners."""
_EDITS = Beyond(
    EditSearch(n_steps=_QUERIES, label="edit-search-probe"), EditSearch(n_steps=5 * _QUERIES, label="edit-search-all"),
    ahead=0.01, least=8, most=64, share=0.07,
)  # fmt: skip
BEYOND = {"smooth": BLACK_BOX, "few": FEW, "single": FEW, "edits": _EDITS}
"""By terrain."""


def black_box(found: Found, *, masks: bool = True) -> HealthCheck:
    """Did a short search without gradients get farther than all attacks?

    It finds adversarial examples that gradients hide. Breaking is not needed for an answer: with the threshold of the model
    moved to the best point of that search, an adversarial example provably exists there, and a working attack must have
    come as far.

    Args:
        masks: whether gradients were followed step by step, so that masked ones explain it.
    """
    if not found.sample:
        return HealthCheck("black-box", "trusted", "no survivor was left to search")
    level: Level = "trusted"
    if found.more_than(0.05) or found.mostly_ahead:
        level = "invalid"
    elif found.broken or found.ahead > max(1, 0.25 * found.sample):
        level = "suspicious"
    if level == "trusted":
        fine = f"random queries came no farther than the attacks on {found.sample - found.ahead} of {found.sample}"
        return HealthCheck("black-box", level, fine)
    sure = "are" if level == "invalid" else "may be"
    reason = f"gradients {sure} masked; look for rounding, quantisation, .detach() or no_grad() on part of the forward pass"
    if not masks:
        reason = "they search too little for this model; leave attacks out, or use the profile 'release'"
    detail = (
        f"{_QUERIES} random queries without gradients broke {found.broken} of {found.sample} survivors and came farther "
        f"than every attack on {found.ahead}{found.rest}: {reason}"
    )
    return HealthCheck("black-box", level, detail)
