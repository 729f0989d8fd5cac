"""What comes before the first attack, once: the model adapted, the examples chosen and encoded, the preflight passed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from pytest_robust.attacks import Attack
from pytest_robust.data import stratified
from pytest_robust.data.examples import Examples
from pytest_robust.errors import PreflightError, ThreatError
from pytest_robust.evaluation.memory import Past
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.preflight import Preflight, mode, preflight
from pytest_robust.evaluation.progress import Report
from pytest_robust.evaluation.result import Cost, Health, HealthCheck
from pytest_robust.evaluation.run import Run
from pytest_robust.evaluation.schedule import Profile, Step, exact_step, profile_named, schedule
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Tally
from pytest_robust.evaluation.units import measured
from pytest_robust.models import NonDifferentiable, Normalize, Randomised, adapt
from pytest_robust.models.edited import Edited
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.latent import Latent
from pytest_robust.models.protocol import Model
from pytest_robust.models.text_function import TextFunction
from pytest_robust.models.transformed import Transformed
from pytest_robust.models.vocabulary import Gradient, Vocabulary
from pytest_robust.objectives import Objective, Untargeted
from pytest_robust.shard import Shard
from pytest_robust.threats import Edits, LatentBall, Threat, ThreatSummary, Transform
from pytest_robust.threats.edits import edited

_ASKED = 32
"""Texts per pass when the user names no number, where a model proposes words."""


@dataclass(frozen=True)
class Opened:
    """Model and data, put together; the model has not been run yet.

    Attributes:
        adapted: the user's model. model: the same as the threat moves its point, seen through a transform perhaps.
        examples: those to attack, as they came. encoded: the same, as the model takes them.
        scale: see ``ThreatSummary``.
        mode: findings about the mode that the user left the model in.
        custom: the steps are the user's, not the profile's. waive: reasons to set findings aside.
        notes: what the user should know, in sentences. began: when, by ``time.perf_counter``.
    """

    adapted: Model
    model: Model
    examples: Examples
    encoded: Examples
    threat: Threat
    objective: Objective
    profile: Profile
    steps: tuple[Step, ...]
    custom: bool
    seed: int
    passes: Passes
    scale: float | None
    mode: tuple[HealthCheck, ...]
    waive: Mapping[str, str]
    notes: tuple[str, ...]
    began: float

    @property
    def schedule(self) -> tuple[str, ...]:
        """The attacks asked for, with their parameters, and what else makes them stronger or weaker."""
        votes = [f"draws={self.passes.draws}"] if self.passes.random else []
        parts = [f"non_differentiable={', '.join(self.adapted.approximated)}"] if self.adapted.approximated else []
        return (*map(str, self.steps), *votes, *parts)

    def summary(self, threat: Threat | None = None) -> ThreatSummary:
        """The threat in plain values, or another one that differs in the budget."""
        return dataclasses.replace((threat or self.threat).summary(), scale=self.scale)

    def preflighted(self) -> Prepared:
        """After the preflight.

        Raises:
            PreflightError: model and data do not fit together. ModelError: the model failed.
        """
        # Of the user's own: neither its data nor its gradients depend on how it is seen.
        found = preflight(self.adapted, self.encoded, self.threat, batch_size=self.passes.most, waive=self.waive)
        self.passes.forward += found.forward
        self.passes.backward += found.backward
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Prepared(**fields, found=found)


@dataclass(frozen=True)
class Prepared(Opened):
    """Model and data, ready to be attacked.

    Attributes:
        found: what the preflight found, clean logits among it.
    """

    found: Preflight

    @property
    def findings(self) -> tuple[HealthCheck, ...]:
        """Those of the preflight, and before it."""
        return (*self.mode, *self.found.findings)

    def subjects(self, own: Mapping[int, Threat] | None = None) -> Subjects:
        """All examples, under the threat, or by row under one of their own that differs in the budget."""
        return Subjects(self.model, self.encoded, self.threat, self.objective, self.found.logits, self.seed, own)

    def run(
        self,
        name: str,
        subjects: Subjects,
        tally: Tally,
        report: Report | None,
        *,
        past: Past | None = None,
        shard: Shard | None = None,
    ) -> Run:
        """One run of the attacks, not started yet."""
        return Run(
            name,
            subjects,
            self.passes,
            self.steps,
            tally,
            report,
            custom=self.custom,
            controls=self.profile.controls,
            past=past,
            shard=shard,
        )

    def health(self, checks: Iterable[HealthCheck]) -> Health:
        """What was found before the attacks, and these findings of theirs."""
        return Health((*self.findings, *(check.set_aside(self.waive) for check in checks)))

    def cost(self) -> Cost:
        """All that was spent so far."""
        return Cost(self.passes.forward, self.passes.backward, time.perf_counter() - self.began)

    def facts(self) -> dict[str, Any]:
        """The fields of an ``Evaluation`` that no attack has a say in."""
        return {
            "model": self.model.name,
            # Of a model that says whether something holds: what, or two evaluations of other questions would compare.
            "objective": ", ".join(filter(None, (self.objective.name, getattr(self.adapted, "question", "")))),
            "seed": self.seed,
            "schedule": self.schedule,
            "device": str(self.model.device),
            "ids": self.examples.ids,
            "labels": self.examples.labels.numpy(),
            "classes": self.examples.classes or self.model.classes,
            "correct": self.found.correct.numpy(),
        }


@contextmanager
def opened(
    model: object,
    data: object,
    threat: Threat,
    *,
    objective: Objective | None,
    profile: str,
    attacks: Sequence[str | Attack] | str | Attack | None,
    n: int | None,
    seed: int,
    batch_size: int | None,
    device: str,
    classes: Sequence[str] | None,
    normalize: Normalize | None,
    waive: Mapping[str, str] | None,
    non_differentiable: NonDifferentiable | None,
    draws: int | None,
    autocast: bool,
) -> Iterator[Opened]:
    """Inside, the user's model is isolated, in eval mode and in full precision. See ``evaluate`` for the arguments.

    Raises:
        PreflightError: the data cannot be read. ModelError: the model cannot be used. ThreatError: the threat is not for
            this model. ValueError: an argument cannot be used.
    """
    began = time.perf_counter()
    chosen = profile_named(profile)
    for what, value in (("n", n), ("batch_size", batch_size), ("draws", draws)):
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{what} must be a whole number, at least 1, got {value!r}")
    objective = objective or Untargeted()
    adapted = adapt(model, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable)
    asking = Passes(adapted, batch_size or _ASKED)
    attacked = under(adapted, threat, partial(upwards, objective, asking))
    # Of a function of texts there are no gradients to lead the edits.
    terrain = "queries" if isinstance(attacked, Edited) and not attacked.differentiable else threat.terrain
    steps = schedule(chosen, attacks, terrain)
    if autocast:
        steps = (*steps, exact_step(terrain))
    if draws is not None and isinstance(attacked, (Edited, Latent)):
        raise ValueError(
            "draws are for changes of inputs and embeddings; edits of texts and hidden states are not voted on yet"
        )
    if draws is not None and threat.budget.unit == "typo":
        raise ThreatError(f"eps {threat.budget} is measured on one model, and with draws each pass is another; use '2%norm'")
    base = adapted
    if draws is not None:
        adapted, attacked = (Randomised(seen, int(draws), seed) for seen in (adapted, attacked))
    examples, notes = _selected(adapted.read(data), objective, chosen, n, seed)
    mode_findings = mode(adapted, waive)  # as the user left it: inside isolated() it is in eval mode
    with full_precision(), adapted.isolated():
        sized = measured(threat, base, examples)
        encoded = attacked.encode(examples) if isinstance(attacked, Edited) else adapted.encode(examples)
        passes = Passes(attacked, batch_size or _batch_size(adapted, encoded), torch.bfloat16 if autocast else None)
        passes.forward, passes.backward = asking.forward, asking.backward
        if sized.spent is not None:
            passes.forward += sized.spent.forward
            passes.backward += sized.spent.backward
        yield Opened(
            adapted=adapted,
            model=attacked,
            examples=examples,
            encoded=encoded,
            threat=sized.threat,
            objective=objective,
            profile=chosen,
            steps=steps,
            custom=attacks is not None,
            seed=seed,
            passes=passes,
            scale=sized.scale,
            mode=mode_findings,
            waive=waive or {},
            notes=(*notes, *sized.notes, *adapted.notes, *_approximated(adapted)),
            began=began,
        )


def under(model: Model, threat: Threat, gradient: Gradient | None = None) -> Model:
    """The model as the threat moves its point: itself, or seen through the threat's transform or edits.

    Args:
        gradient: of what an attack raises, needed where the model is to propose words.

    Raises:
        ThreatError: the threat is for another space than the model's.
    """
    if isinstance(threat, Transform) and model.space == "input":
        return Transformed(model, threat.origin, threat.apply)
    if isinstance(threat, Edits) and isinstance(model, (EmbeddedText, TextFunction)):
        parts: dict[str, Any] = {"sites": threat.sites, "edited": edited, "most_options": threat.most_options}
        if threat.is_open:
            parts |= {"filled": threat.filled, "vocabulary": _vocabulary(model, threat, gradient)}
        return Edited(model, **parts)
    if isinstance(threat, LatentBall) and isinstance(model, EmbeddedText):
        return Latent(model, threat.module, norm=threat.norm, relative=threat.is_share)
    if threat.space == model.space and not isinstance(threat, Edits):
        if isinstance(model, EmbeddedText) and not model.between_texts:
            raise ThreatError(
                f"{type(threat).__name__} moves embeddings, which are no text then, and holds= of {model.name} asks how "
                "much of the text was changed; use CharacterEdits(k) or WordEdits(k), or holds='nll<=0.5'"
            )
        return model
    if isinstance(threat, LatentBall):
        raise ThreatError(
            f"LatentBall moves hidden states of text models, given as (model, tokenizer), and {model.name} is none; use the "
            "threats for its inputs"
        )
    if isinstance(threat, Edits):
        raise ThreatError(
            f"{type(threat).__name__} edits texts, but {model.name} takes tensors; give a text model, as (model, tokenizer) "
            "or TextFunction(f)"
        )
    if model.space == "text":
        raise ThreatError(
            f"{threat.norm} {threat.budget} moves numbers, but {model.name} is a function of texts; use CharacterEdits(k) "
            "or WordEdits(k)"
        )
    if model.space == "embedding":
        raise ThreatError(
            f"{threat.norm} {threat.budget} is a change of pixels or features, but {model.name} reads text, whose words "
            "have no values to move. Use CharacterEdits(k), typing errors, or EmbeddingBall(eps, norm='l2'), a ball around "
            "the token embeddings"
        )
    raise ThreatError(
        f"an embedding ball needs a text model, given as (model, tokenizer), but {model.name} takes tensors; "
        "use Linf, L2, L1 or L0"
    )


def _vocabulary(model: EmbeddedText | TextFunction, threat: Edits, gradient: Gradient | None) -> Vocabulary:
    """Raises ThreatError for a model that cannot propose words."""
    if not isinstance(model, EmbeddedText) or not model.knows_places or gradient is None:
        raise ThreatError(
            f"{type(threat).__name__} of any words: which of all to try is asked of gradients at the words of a text, and "
            f"{model.name} has none; say {threat.closed}"
        )
    return Vocabulary(model, threat.admits, gradient)


def upwards(objective: Objective, passes: Passes, x: Tensor, context: dict[str, Tensor], labels: Tensor) -> Tensor:
    """The gradient that leads from inputs of these labels to where the model is broken."""

    def margin(logits: Tensor, rows: slice) -> Tensor:
        # A target or a label that the model has no class for is said later, with others of its kind.
        goal = objective.goal(labels[rows].to(logits.device)).clamp(0, logits.shape[1] - 1)
        return objective.margin(logits, goal)

    return passes.gradient(margin, x, context)[2]


def _selected(
    examples: Examples, objective: Objective, profile: Profile, n: int | None, seed: int
) -> tuple[Examples, list[str]]:
    """The examples to attack, and what to say about the choice.

    Raises:
        PreflightError: the objective leaves none.
    """
    notes = [] if profile.evidence else ["smoke profile: a quick look, no evidence of robustness"]
    attackable = objective.attackable(examples.labels).nonzero().flatten().tolist()
    if not attackable:
        raise PreflightError(f"{objective.name}: every example belongs to the target class; there is nothing to attack")
    if len(attackable) < len(examples):
        notes.append(f"{len(examples) - len(attackable)} examples of the target class are left out")
        examples = examples.subset(attackable)
    most = n if n is not None else profile.most
    if most is None or most >= len(examples):
        return examples, notes
    notes.append(f"a stratified subset of {most} of {len(examples)} examples, chosen by content and seed {seed}")
    return examples.subset(stratified(examples, most, seed)), notes


def _approximated(model: Model) -> list[str]:
    names = ", ".join(model.approximated)
    return [f"gradients are those of approximations of {names}; outputs are the model's own"] if names else []


def _batch_size(model: Model, examples: Examples) -> int:
    """Examples per pass when the user names none: enough to fill the device, little enough to fit."""
    features = model.batch(examples.take([0])).x.numel()
    values, most = (2**22, 256) if model.device.type == "cpu" else (2**25, 1024)
    return max(1, min(most, values // max(1, features)))
