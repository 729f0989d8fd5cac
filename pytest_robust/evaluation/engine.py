"""E: spends the compute, and gives the Evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_robust.attacks import Attack
from pytest_robust.budget import Number, parse_confidence, parse_floor
from pytest_robust.errors import ShardError
from pytest_robust.evaluation import sharding
from pytest_robust.evaluation.health import random_or_not
from pytest_robust.evaluation.memory import Memory, Past, When
from pytest_robust.evaluation.prepare import opened
from pytest_robust.evaluation.progress import Report
from pytest_robust.evaluation.recall import identify, sign
from pytest_robust.evaluation.result import Evaluation
from pytest_robust.evaluation.shown import changed_texts, side_by_side
from pytest_robust.evaluation.tally import Tally
from pytest_robust.evaluation.units import as_text
from pytest_robust.evaluation.weakest import nearest, weakest
from pytest_robust.models import NonDifferentiable, Normalize
from pytest_robust.objectives import Objective
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
    draws: int | None = None,
    waive: Mapping[str, str] | None = None,
    autocast: bool = False,
    name: str = "evaluation",
    stop_early: bool = True,
    progress: Report | None = None,
    memory: Memory | None = None,
    replay: When = "first",
    shard: str | None = None,
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
        draws: for a model that is random on purpose: gradients are the mean over so many draws, and votes of other draws
            decide; each example is run alone. The documentation has the exact rules.
        waive: findings to set aside, with the reason: ``{"chance": "ten examples only"}``.
        autocast: search in bfloat16 by ``torch.autocast``, which GPUs do faster. Every adversarial example is verified in
            full precision, and near misses are attacked once more in it. An outcome may then depend on the batch.
        name: of the check, for reports. progress: called with a ``Progress`` as the run goes on.
        memory: what was found before: a check that is finished is not run again, one that was interrupted goes on, and
            adversarial examples of earlier runs are tried.
        replay: when these are tried: ``"first"``, where they save the most passes; or ``"last"``, so that what the attacks
            find by themselves stays comparable with another evaluation.
        shard: ``"3/16"``: run the schedule on the third of sixteen shares of the examples, and leave what it came to in
            memory; what is returned has no verdict. ``"merge"``: go on from what memory has of all shards, to what an
            evaluation that decides every example comes to. Neither stops early.

    Raises:
        PreflightError: model and data do not fit together. ModelError: the model failed. ThreatError: the threat is not
            for this model. ShardError: it cannot be sharded, or the shards make no whole. ValueError: an argument cannot be
            used. A missed floor raises nothing.
    """
    part, merging = sharding.parse(shard)
    floor = None if min_accuracy is None else parse_floor(min_accuracy)
    if confidence is not None and floor is None:
        raise ValueError("confidence is that of a verdict, so it needs a floor; give min_accuracy as well")
    sure = None if confidence is None else parse_confidence(confidence)
    with opened(
        model,
        data,
        threat,
        objective=objective,
        profile=profile,
        attacks=attacks,
        n=n,
        seed=seed,
        batch_size=batch_size,
        device=device,
        classes=classes,
        normalize=normalize,
        waive=waive,
        non_differentiable=non_differentiable,
        draws=draws,
        autocast=autocast,
    ) as known:
        early = known.profile.early and stop_early and shard is None
        identity = identify(known, floor, early, sure, autocast, dict(waive or {}), replay)
        if shard is not None and (memory is None or identity.check is None):
            why = "it needs a memory" if memory is None else "something in it has neither source nor plain values"
            raise ShardError(
                f"{name} cannot be told from another check, so it cannot be shared out: {why}; run it unsharded"
            )
        past = None
        if memory is not None:
            past = Past(memory, identity.check, {} if identity.check is None else sign(known), replay, merging)
            finished = past.finished() if shard is None else None
            if finished is not None:
                return replace(finished, name=name, cached=True)
        ready = known.preflighted()
        found, subjects = ready.found, ready.subjects()
        tally = Tally(found.correct, found.predicted, floor, early=early, confidence=sure)
        run = ready.run(name, subjects, tally, progress, past=past, shard=part)
        run.attack()
        checks = run.health(found.logits) if part is None else [sharding.no_verdict(part)]
        notes = (*ready.notes, *random_or_not(subjects, ready.passes))
        weak = weakest(subjects, ready.threat, nearest(subjects, ready.passes, tally.witnesses))
        shown = side_by_side(ready.adapted, ready.encoded, ready.threat, ready.seed, tally.witnesses, weak)
        changed = changed_texts(subjects, tally.witnesses, weak)
        notes = (*notes, *as_text(ready.threat, ready.model, ready.encoded, tally.witnesses, ready.seed))
        cost = ready.cost()
    if sure is not None and not ready.profile.early:
        notes = (*notes, f"the confidence is not used: the {profile} profile decides every example")
    broken_by, robust = tally.final() if part is None else sharding.share(tally)
    attacked = (*(stage.attack for stage in run.stages), *(step.attack.name for step in ready.steps))
    evaluation = Evaluation(
        **ready.facts(),
        name=name,
        threat=ready.summary(),
        profile=profile,
        attacks=tuple(dict.fromkeys(attacked)),
        robust=robust,
        broken_by=tuple(broken_by),
        predicted=tally.predicted,
        floor=floor,
        bound=tally.bound if part is None else "upper",
        stages=tuple(run.stages),
        health=ready.health(checks),
        cost=cost,
        notes=notes,
        witnesses=tally.witnesses,
        weakest=weak,
        shown=shown,
        changed=changed,
        sample=tally.sample if tally.bound == "sampled" else None,
        passes=run.spent * ready.passes.draws,
        identity=identity,
    )
    if past is not None and part is None:
        past.finish(evaluation)
    return evaluation
