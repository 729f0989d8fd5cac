"""Annotations: workflow commands as GitHub reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_checks import check, health

from pytest_robust.reports.annotations import annotated

AT = ("tests/test_it.py", 6, "test_a")
ROOT = Path("/repository/project")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch):
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)


def suspicious(**more):
    return check(health=health("suspicious"), floor=None, outcome="passed", **more)


def test_an_error_names_file_line_and_sentence():
    (line,) = annotated([(AT, "tests/test_it.py::test_a", "assert robust accuracy 31.2% >= 40.0%")], [], ROOT)
    assert line == (
        "::error file=tests/test_it.py,line=7,title=tests/test_it.py%3A%3Atest_a::assert robust accuracy 31.2%25 >= 40.0%25"
    )


def test_what_would_end_a_property_or_a_command_is_escaped():
    (line,) = annotated([(("a,b:c%.py", 0, ""), "x[1,2]", "one: 5%\r\ntwo, three")], [], ROOT)
    assert line == "::error file=a%2Cb%3Ac%25.py,line=1,title=x[1%2C2]::one: 5%25%0D%0Atwo, three"


def test_files_are_named_as_in_the_repository(monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", "/repository")
    (line,) = annotated([(AT, "a", "b")], [], ROOT)
    assert "file=project/tests/test_it.py," in line


def test_without_a_line():
    assert annotated([(("robust", None, ""), "a", "b")], [], ROOT) == ["::error file=robust,title=a::b"]


def test_what_is_suspicious_is_a_warning_unless_it_failed():
    (line,) = annotated([], [(AT, suspicious()), (AT, suspicious() | {"verdict": "fail"}), (AT, check())], ROOT)
    assert line.startswith("::warning file=tests/test_it.py,line=7,title=")
    assert line.endswith("is suspicious: check-suspicious: it is suspicious")


def test_at_most_ten_of_each():
    lines = annotated([(AT, "a", "b")] * 12, [(AT, suspicious())] * 11, ROOT)
    assert [line.split()[0] for line in lines] == ["::error"] * 10 + ["::warning"] * 10
