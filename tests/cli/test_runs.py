"""``pytest-robust show`` and ``compare``."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sample_checks import check, health, item

from pytest_robust.cli import main
from pytest_robust.evaluation.result import CLEAN, Cost, Identity, Stage
from pytest_robust.reports.run import run

KNOWN = Identity("attack", "data", "model", None)


def net(robust: int, n: int = 1000, id: str = "test_it.py::test_a", **more):
    """``robust`` of ``n`` survive, the others but ten are broken."""
    index = np.arange(n)
    return check(
        id,
        **{
            "ids": tuple(f"{i:016x}" for i in range(n)),
            "labels": index % 2,
            "correct": index < n - 10,
            "robust": index < robust,
            "broken_by": tuple(None if i < robust else "pgd" if i < n - 10 else CLEAN for i in range(n)),
            "predicted": index % 2,
            "identity": KNOWN,
            "schedule": ("pgd",),
            "floor": None,
        }
        | more,
    )


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder with runs of these checks; a function that keeps one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".robust" / "runs").mkdir(parents=True)

    def keep(name, *checks):
        # The one with a floor misses it.
        items = [item(one["id"], "passed" if one["floor"] is None else "failed", one) for one in checks]
        content = run(items, missing=[], complete=True, version="0")
        (tmp_path / ".robust" / "runs" / f"{name}.json").write_text(json.dumps(content))

    return keep


@pytest.mark.parametrize("name", ["last", "2026b-1", "2026b", ".robust/runs/2026b-1.json"])
def test_show_prints_what_failed_and_the_table(kept, capsys, name):
    kept("2026a-1", net(900, id="test_it.py::test_old"))
    kept("2026b-1", check(), net(800, id="test_it.py::test_fine"))
    assert main(["show", name]) == 0
    out = capsys.readouterr().out
    assert "_ test_it.py::test_a _" in out
    assert "verdict      FAIL floor 70.0%" in out
    assert "_ test_it.py::test_fine _" not in out
    assert "test_fine  linf 8/255" in out
    assert "robust gate: FAIL, 1 floor" in out
    assert "test_old" not in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2027", "no run is called '2027' in .robust/runs; there is: 2026b-2, 2026b-1, or last"),
        ("2026b", "several runs begin with '2026b'"),
        ("gone.json", "gone.json cannot be read as a run or a JSON report"),
        ("other.json", "other.json is no JSON report of pytest-robust"),
        ("cut.json", "cut.json cannot be read as a run or a JSON report"),
    ],
)
def test_a_run_that_cannot_be_had_is_named(kept, tmp_path, capsys, name, message):
    kept("2026b-1", net(900))
    kept("2026b-2", net(900))
    (tmp_path / "other.json").write_text('{"checks": 3}')
    (tmp_path / "cut.json").write_text('{"checks": ')
    assert main(["show", name]) == 2
    assert message in capsys.readouterr().err


def test_without_any_runs_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "last"]) == 2
    assert "there are no runs in .robust/runs; run pytest here first" in capsys.readouterr().err


def test_compare_of_the_same_passes(kept, capsys):
    kept("a", net(600))
    kept("b", net(601))
    assert main(["compare", "a", "b"]) == 0
    assert "test_it.py::test_a  +0.0 pt  +0.1 pt" in capsys.readouterr().out


def test_compare_finds_a_regression(kept, capsys):
    kept("a", net(600), net(600, id="test_it.py::test_b"))
    kept("b", net(600), net(450, id="test_it.py::test_b"))
    assert main(["compare", "a", "b"]) == 1
    out = capsys.readouterr().out
    assert "test_it.py::test_b  +0.0 pt  -15.0 pt" in out
    assert "REGRESSED: robust accuracy fell by 15.0 points" in out
    assert main(["compare", "a", "b", "--margin", "20pt"]) == 0


def test_compare_of_clean_accuracy(kept):
    kept("a", net(600))
    kept("b", net(600, correct=np.arange(1000) < 950))
    assert main(["compare", "a", "b"]) == 1
    assert main(["compare", "a", "b", "--clean-margin=6pt"]) == 0


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ([net(600, id="test_it.py::test_other")], "NEW: there is no baseline"),
        ([], "MISSING: there is a baseline, but no result"),
        ([net(600, seed=4)], "INCOMPARABLE: seed differs: 3 in the baseline, 4 now"),
        ([net(600, identity=None)], "cannot be told"),
        ([net(600, n=999)], "1 of the baseline's 1000 examples are not there any more"),
        ([net(600, health=health("invalid"))], "no evidence: check-invalid: it is invalid"),
        ([net(30, n=50)], "INCOMPARABLE"),
    ],
)
def test_what_cannot_be_said_is_no_pass(kept, capsys, other, told):
    kept("a", net(600))
    kept("b", *other)
    assert main(["compare", "a", "b"]) == 2
    assert told in capsys.readouterr().out


def test_few_examples_are_inconclusive(kept, capsys):
    kept("a", net(30, n=50))
    kept("b", net(30, n=50, identity=replace(KNOWN, model="another")))
    assert main(["compare", "a", "b"]) == 2
    assert "about 133 examples would decide" in capsys.readouterr().out
    assert main(["compare", "a", "a"]) == 0, "the very same model"


def test_many_checks_are_one_family(kept):
    """A drop that is hardly chance alone is to be expected among forty checks."""
    others = [net(600, id=f"test_it.py::test_{i}") for i in range(40)]
    kept("a", net(600))
    kept("b", net(594))
    assert main(["compare", "a", "b", "--margin=0.5pt"]) == 1
    kept("a", net(600), *others)
    kept("b", net(594), *others)
    assert main(["compare", "a", "b", "--margin=0.5pt"]) == 2


def test_a_regression_outweighs_what_cannot_be_said(kept):
    kept("a", net(600))
    kept("b", net(450), net(600, id="test_it.py::test_new"))
    assert main(["compare", "a", "b"]) == 1


def test_a_margin_that_is_none(kept, capsys):
    kept("a", net(600))
    assert main(["compare", "a", "a", "--margin=2"]) == 2
    assert "did you mean '2pt'?" in capsys.readouterr().err


def test_nothing_to_compare(kept, capsys):
    kept("a")
    assert main(["compare", "a", "a"]) == 2
    assert "has a check" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "status"), [("pgd", 0), ("replay", 2)])
def test_what_only_an_earlier_run_broke_is_no_regression(kept, first, status):
    """Tried last it stands; tried first, the schedule never had its turn."""
    by = tuple(None if i < 500 else "replay" if i < 600 else "pgd" if i < 990 else CLEAN for i in range(1000))
    kept("a", net(600))
    kept("b", net(500, broken_by=by, stages=(Stage(first, 990, 390, Cost(1, 1, 0.1)),)))
    assert main(["compare", "a", "b"]) == status
