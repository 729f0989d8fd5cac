"""The folder ``.robust``: checks are found again, and whatever is damaged is named, set aside and made anew."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from pytest_robust.store import runs
from pytest_robust.store.folder import Folder
from pytest_robust.store.runs import StoreWarning, add_run, check_file

SIGN = {"logits": np.ones((2, 2))}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / ".robust")


def test_a_finished_check_is_found_again(folder, finished):
    assert folder.finished("k") is None
    folder.keep("k", {"a": 1}, {})
    folder.finish("k", finished, SIGN)
    evaluation, sign = folder.finished("k")
    assert evaluation.broken_by == finished.broken_by
    assert sign.keys() == SIGN.keys()
    assert folder.progress("k") is None, "what is finished is no more unfinished"
    assert (folder.root / ".gitignore").read_text().endswith("*\n")


def test_damage_is_named_set_aside_and_made_anew(folder, finished):
    folder.finish("k", finished, SIGN)
    path = check_file(folder.root, "k")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(StoreWarning, match=r"k\.safetensors cannot be used, and is kept as k\.safetensors\.damaged"):
        assert folder.finished("k") is None
    assert folder.finished("k") is None
    folder.finish("k", finished, SIGN)
    assert folder.finished("k") is not None


def test_a_file_of_another_content_is_damage_too(folder, finished):
    folder.keep("k", {"not": "an evaluation"}, {})
    folder.root.joinpath("checks").mkdir()
    folder.root.joinpath("unfinished", "k.safetensors").rename(check_file(folder.root, "k"))
    with pytest.warns(StoreWarning, match="cannot be used"):
        assert folder.finished("k") is None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, finished):
    (tmp_path / ".robust").write_text("a file where the folder should be")
    folder = Folder(tmp_path / ".robust")
    with pytest.warns(StoreWarning, match="cannot be written .*: the next run starts this check anew"):
        folder.finish("k", finished, SIGN)


def run_of(*keys):
    return {"checks": [{"key": key} for key in keys]}


def test_adversarial_examples_of_the_last_runs_are_known(tmp_path, finished):
    folder = Folder(tmp_path)
    folder.finish("k", finished, SIGN)
    add_run(tmp_path, "1", run_of("k"))
    assert folder.known("linf", "input", finished.ids) == {}, "fixed when the run began"
    later = Folder(tmp_path)
    found = later.known("linf", "input", finished.ids)
    assert found.keys() == {finished.ids[row] for row in finished.witnesses}
    assert later.known("l2", "input", finished.ids) == {}


def written(path, second):
    os.utime(path, (second, second))


def test_old_runs_go_and_their_checks_with_them(tmp_path, finished, monkeypatch):
    monkeypatch.setattr("pytest_robust.store.runs._KEPT", 2)
    folder = Folder(tmp_path)
    for number in range(4):
        folder.keep(f"u{number}", {}, {})
        folder.finish(f"k{number}", replace(finished, seed=number), SIGN)
        written(folder.root / "unfinished" / f"u{number}.safetensors", 10 * number)
        written(runs.check_file(folder.root, f"k{number}"), 10 * number)
        written(add_run(tmp_path, f"run{number}", run_of(f"k{number}", None)), 10 * number + 5)
    assert [path.stem for path in runs.runs(tmp_path)] == ["run3", "run2"]
    assert [folder.finished(f"k{number}") is not None for number in range(4)] == [False, False, True, True]
    assert [folder.progress(f"u{number}") is not None for number in range(4)] == [False, False, False, True]


def test_what_a_killed_run_had_finished_outlives_a_run_of_other_tests(tmp_path, finished):
    folder = Folder(tmp_path)
    folder.finish("killed", finished, SIGN)
    folder.keep("half", {}, {})
    for number in range(3):
        folder.finish("other", finished, SIGN)
        add_run(tmp_path, f"run{number}", run_of("other"))
    assert folder.finished("killed") is not None
    assert folder.progress("half") is not None


def test_what_killed_processes_left_goes_with_the_next_run(tmp_path, finished):
    folder = Folder(tmp_path)
    for key, since in (("k", -10), ("again", 10)):
        folder.finish(key, finished, SIGN)
        folder.keep(key, {}, {})
        written(runs.check_file(folder.root, key), 100)
        written(folder.root / "unfinished" / f"{key}.safetensors", 100 + since)
    drafts = [folder.root / "checks" / f".{name}.safetensors.1.tmp" for name in ("gone", "now")]
    for draft in drafts:
        draft.write_bytes(b"half")
    written(drafts[0], 10)
    add_run(tmp_path, "run", run_of("k"))
    assert folder.progress("k") is None, "killed between finishing the check and removing this"
    assert folder.progress("again") is not None, "begun anew, for its model acts otherwise by now"
    assert [draft.is_file() for draft in drafts] == [False, True], "somebody may be writing the one of just now"


@pytest.mark.parametrize("text", ["", "{}", '{"checks": [1]}', "[]", json.dumps({"checks": 3})])
def test_a_damaged_run_is_set_aside(tmp_path, text):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "1.json").write_text(text)
    with pytest.warns(StoreWarning, match=r"1\.json cannot be used"):
        assert Folder(tmp_path).replayed == ()
