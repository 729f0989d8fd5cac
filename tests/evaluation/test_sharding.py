"""Shards of an evaluation make the evaluation of all examples, whatever it found; what makes no whole is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_memory import Notebook, same
from test_random_models import planted
from torch import nn

from pytest_robust import L2, PGD, EvidenceError, Linf, evaluate
from pytest_robust.conformance.networks import Wrapped
from pytest_robust.errors import ShardError
from pytest_robust.evaluation.sharding import merged
from pytest_robust.shard import Shard

EPS = Linf("0.1")
TINY = PGD(n_steps=10, step_size=0.001)


def rounding(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Without a gradient on every second example: some of the survivors survive by it."""
    mask = (x.sum(1, keepdim=True) * 1000).round() % 2 == 0
    return model(torch.where(mask, (x * 1000).round() / 1000, x))


def shard(number: int, of: int, *asked, memory: Notebook | None = None, **options):
    """One shard; what it left, and what it returned."""
    memory = memory or Notebook()
    result = evaluate(*asked, **options, memory=memory, shard=f"{number}/{of}")
    (kept,) = memory.unfinished.values()
    return kept, result


def shards(of: int, *asked, **options):
    return [shard(number, of, *asked, **options)[0] for number in range(1, of + 1)]


def judged(parts, *asked, **options):
    """What all shards come to."""

    class All(Notebook):
        def progress(self, key):
            return merged(parts)

    return evaluate(*asked, **options, memory=All(), shard="merge")


CASES: dict[str, Callable] = {
    "release with a floor": lambda model, data: (model, data, EPS, {"profile": "release", "min_accuracy": "70%"}),
    "smoke": lambda model, data: (model, data, EPS, {"profile": "smoke"}),
    "a subset, another seed, another norm": lambda model, data: (model, data, L2("0.3"), {"n": 40, "seed": 3}),
    "an attack that is too weak": lambda model, data: (model, data, Linf("0.08"), {"attacks": TINY}),
    "partly masked gradients": lambda model, data: (Wrapped(model, rounding), data, EPS, {"min_accuracy": "60%"}),
    "hardly anything survives": lambda model, data: (model, data, Linf("0.3"), {}),
    "a random model": lambda *_: (*noisy(), Linf("0.05"), {"draws": 2, "attacks": PGD(n_steps=10)}),
}


def noisy():
    model, inputs, labels, _ = planted(0.02, n=12)
    return model, (inputs, labels)


def same_but_for_rounding(one, other):
    """Under l2 the last bit of a point depends on the batch, sharded or not."""
    exact = one.threat.norm == "linf"
    assert same(one, other, but=() if exact else ("witnesses", "shown"))
    stages = [[(s.attack, s.attacked, s.broken) for s in found.stages] for found in (one, other)]
    return stages[0] == stages[1]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_merged_is_what_one_evaluation_finds(trained, data, case):
    model, data, threat, options = case(trained, tuple(part[:100] for part in data))
    whole = evaluate(model, data, threat, **options, stop_early=False, memory=Notebook())
    parts = shards(3, model, data, threat, **options, batch_size=17)
    assert same_but_for_rounding(whole, judged(parts, model, data, threat, **options))


@pytest.mark.parametrize("of", [1, 2, 7])
def test_it_is_for_every_number_of_shards_in_every_order(trained, data, of):
    whole = evaluate(trained, data, EPS, stop_early=False, memory=Notebook())
    parts = shards(of, trained, data, EPS)
    for order in (parts, parts[::-1], parts[1:] + parts[:1]):
        assert same_but_for_rounding(whole, judged(order, trained, data, EPS))


def test_a_probe_that_finds_something_was_part_of_these(trained, data):
    """Else the test above would say nothing of remedies, which no shard runs."""
    result = evaluate(trained, data, Linf("0.08"), attacks=TINY)
    assert {"pgd-probe", "pgd-all"} <= {stage.attack for stage in result.stages}
    kept, _ = shard(1, 1, trained, data, Linf("0.08"), attacks=TINY)
    assert set(kept[0]["start"]["broken_by"]) <= {None, "clean", "pgd"}


def test_more_shards_than_examples(trained, data):
    few = tuple(part[:5] for part in data)
    whole = evaluate(trained, few, EPS, stop_early=False, memory=Notebook())
    assert same(whole, judged(shards(9, trained, few, EPS), trained, few, EPS))


def test_a_verdict_that_is_certain_early_is_the_same_verdict(trained, data):
    for floor in ("30%", "70%", "71%", "95%"):
        early = evaluate(trained, data, EPS, min_accuracy=floor)
        parts = shards(2, trained, data, EPS, min_accuracy=floor)
        found = judged(parts, trained, data, EPS, min_accuracy=floor)
        assert (found.verdict, found.bound) == (early.verdict, "exact")


def test_a_share_has_no_verdict(trained, data):
    """Not even of a model that nothing breaks, with a floor that every share meets."""
    _, result = shard(1, 3, trained, data, Linf("0.001"), min_accuracy="10%")
    assert result.bound == "upper"
    assert result.verdict != "pass"
    assert not result.believable
    with pytest.raises(EvidenceError, match="shard 1/3"):
        assert result.accuracy >= 0.1
    with pytest.raises(LookupError, match="not known"):
        result.accuracy_of("0")
    assert (np.array(result.broken_by, dtype=object) == "undecided").sum() >= 90


@pytest.mark.parametrize("of", [1, 3, 7, 16])
def test_shares_are_balanced_and_each_example_is_in_one(of):
    shares = [[rank for rank in range(100) if Shard(number, of).takes(rank)] for number in range(1, of + 1)]
    assert sorted(rank for share in shares for rank in share) == list(range(100))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_does_not_depend_on_the_order_of_the_data(trained, data):
    back = torch.arange(len(data[1])).flip(0)
    _, one = shard(2, 3, trained, data, EPS)
    _, other = shard(2, 3, trained, (data[0][back], data[1][back]), EPS)
    assert dict(zip(one.ids, one.broken_by, strict=True)) == dict(zip(other.ids, other.broken_by, strict=True))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/3", "", "²/3"])
def test_what_is_no_shard_is_refused(trained, data, text):
    with pytest.raises(ValueError, match="i/N with i from 1 to N"):
        evaluate(trained, data, EPS, memory=Notebook(), shard=text)


def test_a_killed_shard_goes_on_to_the_same_end(trained, data, monkeypatch):
    from pytest_robust.evaluation import checkpoint

    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    whole, _ = shard(1, 2, trained, data, EPS)
    memory = Notebook(dies=3)
    with pytest.raises(KeyboardInterrupt):
        shard(1, 2, trained, data, EPS, memory=memory)
    (cut,) = memory.unfinished.values()
    assert not cut[0]["complete"]
    second, _ = shard(2, 2, trained, data, EPS)
    with pytest.raises(ShardError, match="cut short"):
        merged([cut, second])
    memory.dies = None
    resumed, _ = shard(1, 2, trained, data, EPS, memory=memory)
    expected = judged([whole, second], trained, data, EPS)
    assert same(expected, judged([resumed, second], trained, data, EPS))


def cut(parts):
    parts[1][0]["complete"] = False


def twice(parts):
    parts[1] = parts[0]


def gone(parts):
    del parts[1]


def undecided(parts):
    parts[1][0]["since"]["rows"].pop()


def elsewhere(parts):
    parts[1][0]["position"] = [0, 1]


def other_clean(parts):
    by = parts[1][0]["start"]["broken_by"]
    by[by.index(None)] = "clean"


def other_sign(parts):
    parts[1][1]["sign.logits"] = parts[1][1]["sign.logits"] + 1.0


def shorter(parts):
    parts[1][0]["start"]["broken_by"].pop()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "cut short"),
        (twice, "in two shards"),
        (gone, "in no shard"),
        (undecided, "not decided its whole share"),
        (elsewhere, "not of one evaluation"),
        (other_clean, "acts otherwise in one shard"),
        (other_sign, "acts otherwise in one shard"),
        (shorter, "not of one evaluation"),
    ],
)
def test_what_makes_no_whole_is_refused(trained, data, spoil, message):
    parts = copy.deepcopy(shards(3, trained, data, EPS))
    spoil(parts)
    with pytest.raises(ShardError, match=message):
        judged(parts, trained, data, EPS)


def test_a_model_that_acts_otherwise_where_the_shards_are_merged_is_refused(trained, data):
    parts = shards(2, trained, data, EPS)
    other = copy.deepcopy(trained)
    with torch.no_grad():
        other[0].weight += 0.01
    with pytest.raises(ShardError, match="acts otherwise here"):
        judged(parts, other, data, EPS)


def test_a_check_that_cannot_be_told_again_is_not_shared_out(trained, data):
    with pytest.raises(ShardError, match="needs a memory"):
        evaluate(trained, data, EPS, shard="1/2")
    opaque = copy.deepcopy(trained)
    opaque.lock = iter(())  # type: ignore[assignment]
    with pytest.raises(ShardError, match="neither source nor plain values"):
        evaluate(opaque, data, EPS, shard="1/2", memory=Notebook())
