"""Finished checks are found again, interrupted ones go on to the same end, adversarial examples found before come first."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

from pytest_robust import L2, Linf, evaluate
from pytest_robust.attacks import PGD
from pytest_robust.evaluation import checkpoint
from pytest_robust.evaluation.passes import Passes
from pytest_robust.evaluation.result import UNDECIDED

EPS = Linf(0.1)


GRADIENT = Passes.gradient


class Notebook:
    """A memory in this process; what it keeps went through JSON. After ``dies`` savings the evaluation is killed."""

    def __init__(self, known: Mapping[str, list[torch.Tensor]] | None = None, dies: int | None = None) -> None:
        self.checks, self.unfinished, self.points, self.dies = {}, {}, known or {}, dies
        self.savings = 0

    def finished(self, key):
        return self.checks.get(key)

    def finish(self, key, evaluation, sign):
        self.checks[key] = (evaluation, sign)
        self.unfinished.pop(key, None)

    def progress(self, key):
        return self.unfinished.get(key)

    def keep(self, key, content, arrays):
        self.unfinished[key] = (json.loads(json.dumps(content)), {name: array.copy() for name, array in arrays.items()})
        self.savings += 1
        if self.savings == self.dies:
            raise KeyboardInterrupt

    def known(self, norm, space, ids):
        return {i: self.points[i] for i in ids if i in self.points} if norm == "linf" else {}


def same(a, b, *, but=()):
    for field in fields(a):
        mine, theirs = getattr(a, field.name), getattr(b, field.name)
        if field.name in but:
            continue
        if field.name in ("witnesses", "shown"):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[row], theirs[row]) for row in mine)
        elif field.name == "passes":
            # On what is undecided it depends on the batch how far the attacks had come.
            decided = [by != UNDECIDED for by in a.broken_by]
            assert np.array_equal(mine[decided], theirs[decided])
        elif field.name not in ("cost", "stages"):
            assert np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs, field.name
    return True


def test_a_finished_check_is_not_run_again(trained, data):
    memory = Notebook()
    first = evaluate(trained, data, EPS, memory=memory)
    calls = []
    hook = nn.Module.register_forward_hook
    again = evaluate(trained, data, EPS, memory=memory, name="other", batch_size=7, progress=calls.append)
    assert hook is nn.Module.register_forward_hook
    assert again.cached
    assert not first.cached
    assert again.name == "other"
    assert calls == []
    assert same(first, again, but=("name", "cached"))


def changed(trained, by: float) -> nn.Module:
    other = copy.deepcopy(trained)
    with torch.no_grad():
        other[0].weight.add_(by)
    return other


CHANGES = {
    "model": lambda t, d: ((changed(t, 1e-6), d, EPS), {}),
    "data": lambda t, d: ((t, (d[0][:-1], d[1][:-1]), EPS), {}),
    "order": lambda t, d: ((t, (d[0].flip(0), d[1].flip(0)), EPS), {}),
    "eps": lambda t, d: ((t, d, Linf(0.11)), {}),
    "norm": lambda t, d: ((t, d, L2(0.1)), {}),
    "bounds": lambda t, d: ((t, d, Linf(0.1, bounds=(0, 1.5))), {}),
    "seed": lambda t, d: ((t, d, EPS), {"seed": 1}),
    "profile": lambda t, d: ((t, d, EPS), {"profile": "smoke"}),
    "attacks": lambda t, d: ((t, d, EPS), {"attacks": PGD(n_steps=3)}),
    "floor": lambda t, d: ((t, d, EPS), {"min_accuracy": 0.9}),
    "waiver": lambda t, d: ((t, d, EPS), {"waive": {"chance": "a reason"}}),
    "autocast": lambda t, d: ((t, d, EPS), {"autocast": True}),
    "replay": lambda t, d: ((t, d, EPS), {"replay": "last"}),
    "n": lambda t, d: ((t, d, EPS), {"n": 20}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_runs_it_again(trained, data, change):
    memory = Notebook()
    evaluate(trained, data, EPS, memory=memory, attacks=None)
    arguments, options = CHANGES[change](trained, data)
    assert not evaluate(*arguments, **options, memory=memory).cached
    assert len(memory.checks) == 2


def test_the_code_counts(trained, data, monkeypatch):
    memory = Notebook()
    evaluate(trained, data, EPS, memory=memory)
    monkeypatch.setattr("pytest_robust.evaluation.recall.code_digest", lambda: "newer")
    assert not evaluate(trained, data, EPS, memory=memory).cached


FACTOR = [1.0]


def helper(logits):
    """What a model calls and no digest of it sees."""
    return logits * torch.tensor([FACTOR[0], 1, 1, 1, 1])


class Calling(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return helper(self.inner(x))


def test_a_model_that_acts_otherwise_with_the_same_weights_and_source_is_noticed(trained, data):
    memory = Notebook()
    evaluate(Calling(trained).eval(), data, EPS, memory=memory)
    FACTOR[0] = 1.05
    try:
        assert not evaluate(Calling(trained).eval(), data, EPS, memory=memory).cached
    finally:
        FACTOR[0] = 1.0
    assert not evaluate(Calling(trained).eval(), data, EPS, memory=memory).cached, "the latest is what is kept"
    assert evaluate(Calling(trained).eval(), data, EPS, memory=memory).cached


def test_what_cannot_be_seen_through_is_run_each_time(trained, data):
    model = Calling(trained).eval()
    model.opaque = object()
    memory = Notebook()
    assert evaluate(model, data, EPS, memory=memory).identity.model is None
    assert not evaluate(model, data, EPS, memory=memory).cached
    assert memory.checks == {}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_accuracy": 0.55},
        {"min_accuracy": 0.9},
        {"min_accuracy": 0.3, "confidence": 0.9},
        {"profile": "release"},
    ],
    ids=["plain", "close", "fail", "sampled", "release"],
)
@pytest.mark.parametrize("dies", [1, 3, 8])
def test_an_interrupted_check_goes_on_to_the_same_end(trained, data, monkeypatch, options, dies):
    whole = evaluate(trained, data, EPS, batch_size=16, **options)
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    memory = Notebook(dies=dies)
    try:
        evaluate(trained, data, EPS, batch_size=16, memory=memory, **options)
        assert memory.savings < dies
        return
    except KeyboardInterrupt:
        memory.dies = None
    assert len(memory.unfinished) == 1
    done = []
    resumed = evaluate(trained, data, EPS, batch_size=24, memory=memory, progress=done.append, **options)
    assert same(whole, resumed)
    assert [(stage.attack, stage.attacked, stage.broken) for stage in resumed.stages] == [
        (stage.attack, stage.attacked, stage.broken) for stage in whole.stages
    ]
    assert memory.unfinished == {}


def test_what_was_settled_is_not_attacked_again(trained, data, monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    seen = []
    monkeypatch.setattr(
        Passes, "gradient", lambda self, loss, x, context: seen.append(len(x)) or GRADIENT(self, loss, x, context)
    )
    evaluate(trained, data, EPS, batch_size=16)
    whole = sum(seen)
    memory = Notebook(dies=200)
    with pytest.raises(KeyboardInterrupt):
        evaluate(trained, data, EPS, batch_size=16, memory=memory)
    memory.dies = None
    seen.clear()
    evaluate(trained, data, EPS, batch_size=16, memory=memory)
    assert sum(seen) < 0.85 * whole


def test_adversarial_examples_found_before_break_at_one_pass_each(trained, data):
    first = evaluate(trained, data, EPS)
    points = {first.ids[row]: [witness] for row, witness in first.witnesses.items()}
    again = evaluate(trained, data, EPS, memory=Notebook(points))
    assert again.accuracy.k <= first.accuracy.k
    assert set(again.broken_counts()) <= {"clean", "replay", *first.attacks}
    assert again.broken_counts()["replay"] == len(first.witnesses)
    stage = again.stages[0]
    assert (stage.attack, stage.attacked, stage.broken) == ("replay", len(points), len(points))
    assert stage.cost.forward <= 2 * len(points)
    assert stage.cost.backward == 0


def test_tried_last_they_leave_what_the_attacks_find_as_it_is(trained, data):
    strong = evaluate(trained, data, EPS, attacks=[PGD("margin", n_steps=40), PGD("margin-t", n_targets=4)])
    points = {strong.ids[row]: [witness] for row, witness in strong.witnesses.items()}
    weak = PGD("margin", n_steps=2, step_size=0.1, random_start=False)
    alone = evaluate(trained, data, EPS, attacks=weak)
    last = evaluate(trained, data, EPS, attacks=weak, memory=Notebook(points), replay="last")
    found = [None if by == "replay" else by for by in last.broken_by]
    assert found == list(alone.broken_by)


def test_an_interrupted_check_of_a_model_that_acts_otherwise_begins_anew(trained, data, monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    memory = Notebook(dies=150)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Calling(trained).eval(), data, EPS, batch_size=16, memory=memory)
    memory.dies = None
    FACTOR[0] = 1.05
    try:
        anew = evaluate(Calling(trained).eval(), data, EPS, memory=Notebook())
        assert same(anew, evaluate(Calling(trained).eval(), data, EPS, memory=memory))
    finally:
        FACTOR[0] = 1.0


def test_points_of_a_larger_budget_are_brought_inside_and_verified(trained, data):
    larger = evaluate(trained, data, Linf(0.3))
    points = {larger.ids[row]: [witness] for row, witness in larger.witnesses.items()}
    small = evaluate(trained, data, Linf(0.02), memory=Notebook(points))
    plain = evaluate(trained, data, Linf(0.02))
    assert small.accuracy.k <= plain.accuracy.k
    for row, witness in small.witnesses.items():
        assert float((witness.double() - data[0][row].double()).abs().max()) <= 0.02


def test_points_that_do_not_fit_are_left_out(trained, data):
    plain = evaluate(trained, data, EPS)
    wrong = {i: [torch.full((12,), torch.nan), torch.ones(3), torch.full((12,), 9.0)] for i in plain.ids}
    result = evaluate(trained, data, EPS, memory=Notebook(wrong))
    assert result.health.level == "trusted"
    assert result.accuracy.k <= plain.accuracy.k
