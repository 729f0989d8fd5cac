"""E: spends the compute, and gives the Evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from numbers import Integral

import torch

from pytest_robust.attacks import Attack
from pytest_robust.budget import Number, parse_confidence, parse_floor
from pytest_robust.data import load, stratified
from pytest_robust.data.examples import Examples
from pytest_robust.errors import PreflightError, ThreatError
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.precision import full_precision
from pytest_robust.evaluation.preflight import mode, preflight
from pytest_robust.evaluation.progress import Report
from pytest_robust.evaluation.result import Cost, Evaluation, Health
from pytest_robust.evaluation.run import Run
from pytest_robust.evaluation.schedule import EXACT, Profile, profile_named, schedule
from pytest_robust.evaluation.subjects import Subjects
from pytest_robust.evaluation.tally import Tally
from pytest_robust.models import NonDifferentiable, Normalize, adapt
from pytest_robust.models.protocol import Model
from pytest_robust.objectives import Objective, Untargeted
from pytest_robust.threats import Threat


def evaluate(
    model: object,
    data: object,
    threat: Threat,
    *,
    objective: Objective | None = None,
    profile: str = "standard",
    attacks: Sequence[str | Attack] | str | Attack | None = None,
    min_accuracy: Number | None = None,
    confidence: Number | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    classes: Sequence[str] | None = None,
    normalize: Normalize | None = None,
    non_differentiable: NonDifferentiable | None = None,
    waive: Mapping[str, str] | None = None,
    autocast: bool = False,
    name: str = "evaluation",
    stop_early: bool = True,
    progress: Report | None = None,
) -> Evaluation:
    """Attack a model on data within a threat, and say what survived. Nothing of the user's is changed.

    Args:
        model: a torch module, a Hugging Face (model, tokenizer) or text-classification pipeline, an adapted model, or a
            function from a tensor to logits.
        data: (inputs, labels), a Dataset, a DataLoader, or for text a list of (text, label).
        threat: what the attack may do, in the units of the inputs passed.
        objective: what counts as broken; ``Untargeted()`` when left out.
        profile: ``"smoke"``, ``"standard"`` or ``"release"``: how much attack, how much data.
        attacks: names or attack objects, instead of the profile's.
        min_accuracy: the floor. stop_early: with a floor, ``standard`` and ``smoke`` stop as soon as the verdict is certain.
        confidence: with it, ``standard`` and ``smoke`` attack a growing random sample, and stop when it says with this
            confidence on which side of the floor all examples lie together. Left out: every verdict is an exact count.
        n: a stratified subset of so many examples, chosen by content. seed: of the subset and of every attack.
        batch_size: examples per pass; found by itself when left out, and halved when memory runs out. No result depends
            on it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        classes: names of the classes. normalize: (mean, std) per channel, folded into the model.
        non_differentiable: submodules without a useful gradient, and what stands for them backward: see ``adapt``.
        waive: findings of the preflight to set aside, with the reason: ``{"chance": "ten examples only"}``.
        autocast: search in bfloat16 by ``torch.autocast``, which GPUs do faster. Every adversarial example is verified in
            full precision, and near misses are attacked once more in it. An outcome may then depend on the batch.
        name: of the check, for reports. progress: called with a ``Progress`` as the run goes on.

    Raises:
        PreflightError: model and data do not fit together. ModelError: the model failed. ThreatError: the threat is not
            for this model. ValueError: an argument cannot be used. A missed floor raises nothing.
    """
    began = time.perf_counter()
    chosen = profile_named(profile)
    steps = schedule(chosen, attacks)
    if autocast:
        steps = (*steps, EXACT)
    floor = None if min_accuracy is None else parse_floor(min_accuracy)
    if confidence is not None and floor is None:
        raise ValueError("confidence is that of a verdict, so it needs a floor; give min_accuracy as well")
    sure = None if confidence is None else parse_confidence(confidence)
    for what, value in (("n", n), ("batch_size", batch_size)):
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{what} must be a whole number, at least 1, got {value!r}")
    objective = objective or Untargeted()

    adapted = adapt(model, device=device, normalize=normalize, classes=classes, non_differentiable=non_differentiable)
    check_space(adapted, threat)
    examples, notes = _selected(load(data, classes=adapted.classes), objective, chosen, n, seed)
    if sure is not None and not chosen.early:
        notes.append(f"the confidence is not used: the {profile} profile decides every example")
    mode_findings = mode(adapted, waive)  # as the user left it: inside isolated() it is in eval mode
    with full_precision(), adapted.isolated():
        encoded = adapted.encode(examples)
        passes = Passes(adapted, batch_size or _batch_size(adapted, encoded), torch.bfloat16 if autocast else None)
        found = preflight(adapted, encoded, threat, batch_size=passes.most, waive=waive)
        passes.forward, passes.backward = found.forward, found.backward
        subjects = Subjects(adapted, encoded, threat, objective, found.logits, seed)
        early = chosen.early and stop_early
        tally = Tally(found.correct, found.logits.argmax(1), floor, early=early, confidence=sure)
        run = Run(name, subjects, passes, steps, tally, progress)
        run.attack()
        checks = run.health(found.logits)
    broken_by, robust = tally.final()
    return Evaluation(
        name=name,
        model=adapted.name,
        threat=threat.summary(),
        objective=objective.name,
        profile=profile,
        attacks=tuple(dict.fromkeys([*(step.attack.name for step in steps), *(stage.attack for stage in run.stages)])),
        seed=seed,
        device=str(adapted.device),
        ids=examples.ids,
        labels=examples.labels.numpy(),
        classes=examples.classes or adapted.classes,
        correct=found.correct.numpy(),
        robust=robust,
        broken_by=tuple(broken_by),
        predicted=tally.predicted,
        floor=floor,
        bound=tally.bound,
        stages=tuple(run.stages),
        health=Health((*mode_findings, *found.findings, *checks)),
        cost=Cost(passes.forward, passes.backward, time.perf_counter() - began),
        notes=(*notes, *adapted.notes, *_approximated(adapted)),
        witnesses=tally.witnesses,
        sample=tally.sample if tally.bound == "sampled" else None,
        passes=run.spent,
    )


def check_space(model: Model, threat: Threat) -> None:
    """Raises ThreatError where the threat is for another space than the model's."""
    if threat.space == model.space:
        return
    if model.space == "embedding":
        raise ThreatError(
            f"{threat.norm} {threat.budget} is a budget of pixels or features, but {model.name} reads text, whose words "
            "have no values to move. Use EmbeddingBall(eps, norm='l2'), a ball around the token embeddings"
        )
    raise ThreatError(
        f"an embedding ball needs a text model, given as (model, tokenizer), but {model.name} takes tensors; "
        "use Linf, L2, L1 or L0"
    )


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
