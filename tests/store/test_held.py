"""Which stored adversarial example an ID means."""

from __future__ import annotations

import json

import pytest

from pytest_robust.store.held import AmbiguousError, Shelf, checked_id
from pytest_robust.store.runs import StoreWarning, check_file

THREAT = {"norm": "linf", "eps": "8/255", "value": 8 / 255, "space": "input", "bounds": "[0, 1]"}


def check(by, ids=None, key="k", id="t.py::test_a", nodeid="t.py::test_a"):
    """A check of examples that these broke."""
    ids = ids or [f"{i:x}" * 16 for i in range(len(by))]
    examples = {"ids": ids, "broken_by": by, "predicted": [3] * len(by)}
    return {"id": id, "nodeid": nodeid, "key": key, "n": len(by), "threat": THREAT, "examples": examples}


@pytest.fixture
def shelf(tmp_path):
    """Keeps runs, the first the oldest, and asks for an ID."""

    def of(wanted, *runs, gone=(), nodeid="t.py::test_a"):
        (tmp_path / "runs").mkdir()
        (tmp_path / "checks").mkdir()
        for number, checks in enumerate(runs):
            (tmp_path / "runs" / f"run{number}.json").write_text(json.dumps({"schema": 1, "checks": checks}))
            for one in checks:
                if one["key"] is not None and one["key"] not in gone:
                    check_file(tmp_path, one["key"]).touch()
        return Shelf(tmp_path, checked_id(wanted)).held(nodeid)

    return of


def test_the_latest_run_that_found_it(shelf):
    found, reasons = shelf("1", [check([None, "pgd"], key="old")], [check([None, "apgd-ce"], key="new")])
    held = found["t.py::test_a"]
    assert (held.run, held.key, held.id, held.number, held.found_by) == ("run1", "new", "1" * 16, 1, "apgd-ce")
    assert (held.predicted, held.threat) == (3, THREAT)
    assert reasons == []


def test_an_earlier_run_where_the_last_did_not_find_it(shelf):
    found, _ = shelf("1", [check([None, "pgd"], key="old")], [check([None, None], key="new")])
    assert found["t.py::test_a"].key == "old"


def test_what_was_only_tried_again_is_the_finders(shelf):
    found, _ = shelf("0", [check(["pgd"], key="old")], [check(["replay"], key="new")])
    assert (found["t.py::test_a"].key, found["t.py::test_a"].found_by) == ("new", "pgd")


def test_a_finder_that_is_forgotten(shelf):
    found, _ = shelf("0", [check(["replay"])])
    assert found["t.py::test_a"].found_by == "an earlier run"


def test_a_number_is_a_place_in_the_last_run(shelf):
    ids = ["a" * 16, "b" * 16]
    found, _ = shelf("0", [check(["pgd", "pgd"], ids, key="old")], [check([None, "pgd"], ids[::-1], key="new")])
    held = found["t.py::test_a"]
    assert (held.id, held.key, held.number) == ("b" * 16, "old", 0)


@pytest.mark.parametrize("typed", ["abcdef", "ABCDEF0", "abcdef0123456789"])
def test_a_content_id_by_its_beginning(shelf, typed):
    found, _ = shelf(typed, [check([None, "pgd"], ["0" * 16, "abcdef0123456789"])])
    assert found["t.py::test_a"].number == 1


def test_a_beginning_that_several_share(shelf):
    with pytest.raises(AmbiguousError, match="abcdef may mean 2 examples, abcdef0000000000, abcdef1{10}; give the whole"):
        shelf("abcdef", [check(["pgd", None], ["abcdef" + "0" * 10, "abcdef" + "1" * 10])])


def test_a_beginning_of_digits_is_not_taken_for_a_number(shelf):
    found, _ = shelf("000001", [check(["pgd", "pgd"], ["f" * 16, "0000010000000000"])])
    assert found["t.py::test_a"].id == "0000010000000000"


def test_a_number_that_is_a_beginning_too(shelf):
    ids = [f"{i:016x}" for i in range(100001)]
    ids[7] = "1000000000000000"
    with pytest.raises(AmbiguousError, match="100000 may mean 2 examples"):
        shelf("100000", [check(["pgd"] * len(ids), ids)])


@pytest.mark.parametrize(
    ("by", "key", "reason"),
    [
        (None, "k", "example 0 survived every attack (run run0)"),
        ("clean", "k", "example 0 is wrong without any attack, so none was found (run run0)"),
        ("undecided", "k", "example 0 was not decided: the verdict was certain before its turn (run run0)"),
        ("pgd", None, "example 0 was broken, but what was evaluated cannot be recognised again, so nothing of it is kept"),
        ("pgd", "gone", "example 0 was broken, but the file "),
    ],
)
def test_why_there_is_none(shelf, by, key, reason):
    found, reasons = shelf("0", [check([by], key=key)], gone=["gone"])
    assert found == {}
    assert len(reasons) == 1
    assert reasons[0].startswith(f"t.py::test_a: {reason}")


def test_each_check_of_a_test_is_asked(shelf):
    both = [check(["pgd"], id="t.py::test_a::x"), check([None], id="t.py::test_a::y")]
    found, reasons = shelf("0", [*both, check(["pgd"], id="t.py::test_b", nodeid="t.py::test_b")])
    assert found.keys() == {"t.py::test_a::x"}
    assert reasons == ["t.py::test_a::y: example 0 survived every attack (run run0)"]


def test_a_test_that_never_ran(shelf):
    assert shelf("0", [check(["pgd"])], nodeid="t.py::test_z") == ({}, ["t.py::test_z: no finished check of it is kept"])


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', '{"schema": 1, "checks": [{}]}', '{"schema": 9}'])
def test_a_run_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "1.json").write_text(text)
    with pytest.warns(StoreWarning, match="1.json cannot be used"):
        shelf = Shelf(tmp_path, "0")
    assert shelf.held("t.py::test_a")[0] == {}


@pytest.mark.parametrize("typed", ["", "abcde", "g" * 8, "1" * 6 + "z", "a" * 17, "-1", "1.5"])
def test_no_id(typed):
    with pytest.raises(ValueError, match="names no example"):
        checked_id(typed)
