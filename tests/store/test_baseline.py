"""Baselines in files and in git."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_robust.errors import DamagedError
from pytest_robust.store.baseline import Baseline, BaselineError, Source, file_of


def baseline(n: int = 10, id: str = "tests/test_it.py::test_net[linf-8/255]", **changes) -> Baseline:
    made = Baseline(
        id=id,
        tier="critical",
        key="k" * 32,
        threat={"norm": "linf", "eps": "8/255", "value": 8 / 255, "space": "input", "bounds": "[0, 1]"},
        objective="untargeted",
        attack={"profile": "release", "names": ["fgsm-t", "pgd-t1"], "seed": 0, "digest": "a" * 32},
        data="d" * 32,
        model="m" * 32,
        ids=tuple(f"{i:016x}" for i in range(n)),
        clean=tuple(i % 3 > 0 for i in range(n)),
        robust=tuple(i % 3 > 1 for i in range(n)),
        environment={"torch": "2.13.0"},
        commit={"id": "abc", "dirty": False},
    )
    return replace(made, **changes)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_bits_come_back_as_they_were(bits):
    made = baseline(len(bits), clean=tuple(a for a, _ in bits), robust=tuple(b for _, b in bits))
    assert Baseline.read(made.text()) == made


@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 10**4)), max_size=40))
def test_values_come_back_as_they_were(values):
    clean, robust = (tuple(pair[side] / 1e4 for pair in values) for side in (0, 1))
    made = baseline(len(values), clean=clean, robust=robust, metric="ndcg@10")
    assert Baseline.read(made.text()) == made


@pytest.mark.parametrize(
    ("old", "new"), [("10000 ", "20000 "), ("10000 ", ""), ('"robust": 1.5', '"robust": 1.4'), ("10000 ", "x ")]
)
def test_values_that_were_edited_are_damage(old, new):
    text = baseline(3, clean=(1.0, 0.5, 1.0), robust=(1.0, 0.5, 0.0), metric="rbo").text()
    assert old in text
    with pytest.raises(DamagedError):
        Baseline.read(text.replace(old, new))


def test_a_file_of_a_thousand_examples_is_small_and_readable():
    text = baseline(1000).text()
    assert len(text.encode()) <= 20_000
    assert max(map(len, text.splitlines())) < 300
    assert text == baseline(1000).text()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"schema": 1', '"schema": 2'), ('"robust": 3', '"robust": 4'), ('"n": 10', '"n": 11'), ('"ids"', '"ids2"'), ("}", "")],
)
def test_what_was_edited_or_is_of_another_kind_is_damage(old, new):
    text = baseline().text()
    assert old in text
    with pytest.raises(DamagedError):
        Baseline.read(text.replace(old, new))


def test_files_are_named_after_the_check():
    assert file_of("tests/a/test_it.py::Test::test_net[linf-8/255]") == Path("tests/a/test_it/Test-test_net-linf-8_255.json")
    assert file_of("robust::nets:net[linf-8/255]") == Path("robust/nets_net-linf-8_255.json")
    assert ".." not in file_of("../../x.py::t").parts


def test_written_and_found_again(tmp_path):
    source = Source(tmp_path, Path("robust-baseline"))
    path = source.write(baseline())
    assert path == tmp_path / "robust-baseline/tests/test_it/test_net-linf-8_255.json"
    source = Source.named("", tmp_path)
    assert source.find(baseline().id) == baseline()
    assert source.find("tests/test_it.py::other") is None
    assert source.all() == [baseline()]
    assert str(source) == "robust-baseline"


def test_a_missing_folder_or_revision_says_what_to_do(tmp_path):
    with pytest.raises(BaselineError, match="no folder .*robust-baseline; .*--robust-update"):
        Source.named("", tmp_path)
    with pytest.raises(BaselineError, match="no git revision 'main' here; .*git fetch"):
        Source.named("git:main", tmp_path)


def test_an_unreadable_baseline_is_named(tmp_path):
    source = Source(tmp_path, Path("base"))
    path = source.write(baseline())
    path.write_text(path.read_text()[:50])
    with pytest.raises(BaselineError, match=r"test_net-linf-8_255\.json: .*--robust-update writes it anew"):
        source.find(baseline().id)
    with pytest.raises(BaselineError):
        source.all()


@pytest.fixture
def repository(tmp_path):
    """A git repository whose project, a folder in it, has a baseline, changed since it was committed."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.email=a@example.org", "-c", "user.name=a"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    project = tmp_path / "project"
    project.mkdir()
    git("init", "-q", "-b", "main", ".")
    source = Source(project, Path("robust-baseline"))
    source.write(baseline())
    git("add", "-A")
    git("commit", "-q", "-m", "baseline")
    source.write(baseline(robust=(True,) * 10))
    return project


def test_a_revision_is_read_as_it_was_committed(repository):
    source = Source.named("git:main", repository)
    assert source.find(baseline().id) == baseline()
    assert source.all() == [baseline()]
    assert source.find("tests/other.py::test") is None
    assert str(source).startswith("main@")


def test_a_folder_that_the_revision_has_not_is_empty(repository):
    assert Source.named("git:main", repository, "elsewhere").all() == []
    with pytest.raises(BaselineError, match="relative to the project"):
        Source.named("git:main", repository, "/elsewhere").all()


def test_git_that_fails_is_an_error_and_no_missing_baseline(repository, monkeypatch):
    source = Source.named("git:main", repository)
    monkeypatch.setattr(Source, "_git", lambda *_: None)
    with pytest.raises(BaselineError, match="failed in"):
        source.find(baseline().id)


def test_a_revision_stays_what_it_was_and_is_listed_once(repository, monkeypatch):
    source, asked = Source.named("git:main", repository), []
    plain = Source._git
    label = str(source)
    identity = ["-c", "user.email=a@example.org", "-c", "user.name=a"]
    subprocess.run(["git", *identity, "commit", "-qam", "moved on"], cwd=repository, check=True)
    assert Source.named("git:main", repository).find(baseline().id) == baseline(robust=(True,) * 10)

    def counted(self: Source, *arguments: str) -> str | None:
        asked.append(arguments[0])
        return plain(self, *arguments)

    monkeypatch.setattr(Source, "_git", counted)
    assert [source.find(baseline().id) for _ in range(3)] == [baseline()] * 3
    assert str(source) == label
    assert asked == ["ls-tree", "show", "show", "show"]
