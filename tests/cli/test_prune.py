"""``pytest-robust baseline prune``."""

from __future__ import annotations

import json

import pytest
from sample_checks import check, item

from pytest_robust.cli import main
from pytest_robust.reports.run import run
from pytest_robust.store.baseline import Baseline, Source

IDS = ("test_it.py::test_a", "test_it.py::test_gone", "test_it.py::test_skipped::deep", "test_it.py::test_wrong@2/255")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Baselines of four checks, and a run in which one passed, one was skipped and one raised."""
    monkeypatch.chdir(tmp_path)
    source = Source(tmp_path, tmp_path / "robust-baseline")
    for id in IDS:
        source.write(Baseline(id, "critical", None, {}, "", {}, "", None, ("0",), (True,), (True,), {}, None))
    (tmp_path / "full.json").write_text(json.dumps(done()))
    return tmp_path


def done(complete=True):
    items = [item(IDS[0], "passed", check()), item("test_it.py::test_skipped", "skipped")]
    return run([*items, item("test_it.py::test_wrong", message="boom")], missing=[], complete=complete, version="0")


def files(project):
    return sorted(path.name for path in (project / "robust-baseline").rglob("*.json"))


def test_it_lists_and_removes_nothing(project, capsys):
    assert main(["baseline", "prune", "--run", "full.json"]) == 0
    out = capsys.readouterr().out
    assert "not in the run: " in out
    assert out.count("test_it.py::") == 1
    assert "(test_it.py::test_gone)" in out
    assert "--yes removes these 1 files" in out
    assert len(files(project)) == 4


def test_with_yes_it_removes_what_is_gone_and_no_other(project, capsys):
    assert main(["baseline", "prune", "--run", "full.json", "--yes"]) == 0
    assert "removed: " in capsys.readouterr().out
    assert files(project) == ["test_a.json", "test_skipped-deep.json", "test_wrong_2_255.json"]
    assert main(["baseline", "prune", "--run", "full.json", "--yes"]) == 0
    assert "every baseline" in capsys.readouterr().out


def test_a_run_that_was_cut_short_says_nothing(project, capsys):
    (project / "cut.json").write_text(json.dumps(done(complete=False)))
    assert main(["baseline", "prune", "--run", "cut.json", "--yes"]) == 2
    assert "cut was cut short" in capsys.readouterr().err
    assert len(files(project)) == 4


def test_without_a_folder(project, capsys):
    assert main(["baseline", "prune", "--run", "full.json", "--folder", "none"]) == 2
    assert "there is no folder" in capsys.readouterr().err
