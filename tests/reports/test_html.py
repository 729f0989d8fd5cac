"""The HTML report: whole, escaped, and asking for nothing else."""

from __future__ import annotations

from fractions import Fraction
from html.parser import HTMLParser

from sample_checks import UNSURE, check, comparison, health, item

from pytest_robust.evaluation.result import Cost
from pytest_robust.reports import html
from pytest_robust.reports.run import run
from pytest_robust.threats.summary import ThreatSummary

VOID = {"meta", "img", "br", "rect", "line", "polyline"}


class Page(HTMLParser):
    """Tags with their attributes, and the text; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.stack, self.text = [], [], ""
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] != "style":
            self.text += data


def made(*items, missing=(), pictures=None):
    return html.render(run(items, missing=missing, complete=not missing, version="1"), pictures)


def test_the_gate_comes_first_and_failures_before_what_passed():
    page = Page(made(item("a", "passed", check("a", floor=Fraction(1, 2))), item("b", "failed", check("b"))))
    places = [page.text.index(text) for text in ("FAIL", "robust gate: FAIL, 1 floor", "FAIL floor 70.0%", "pass")]
    assert places == sorted(places)
    assert ["open" in attrs for tag, attrs in page.tags if tag == "details"] == [True, False]


def test_names_and_messages_are_text_and_nothing_else():
    evil = "<script>alert(1)</script>\"'&"
    checked = check(f"t.py::{evil}", classes=(evil, "dog"), model=evil, notes=(evil,), health=health("invalid", waived=evil))
    page = Page(made(item(evil, "failed", checked), item("e", "failed", message=evil), missing=[evil]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 6


def test_it_asks_for_nothing_else():
    examples = [
        {
            "row": 1,
            "label": "a",
            "predicted": "b",
            "by": "pgd",
            "width": 8,
            "clean": "data:c",
            "adversarial": "data:a",
            "change": "data:d",
            "times": "5",
        }
    ]
    text = made(item("a", "failed", check("a")), pictures={"a": {"examples": examples, "missing": ""}})
    page = Page(text)
    assert [a["src"] for t, a in page.tags if t == "img"] == ["data:c", "data:a", "data:d"]
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text


def test_errors_and_missing_have_rows():
    page = Page(made(item("a", "failed", message="no labels"), missing=["b"]))
    assert "ERROR" in page.text
    assert "no labels" in page.text
    assert "no result arrived" in page.text


def test_a_curve_has_a_point_for_each_budget_and_one_for_none():
    points = [{"eps": e, "value": v, "n": 10, "bound": "exact", "robust": {"k": k, "n": 10, "low": 0.1, "high": 0.9}}
              for e, v, k in (("2/255", 2 / 255, 8), ("8/255", 8 / 255, 6))]  # fmt: skip
    shown = html._curve(check("a", curve=points), [])
    assert [point["x"] for point in shown["points"]] == [0, 140, 560]
    assert [point["y"] for point in shown["points"]] == [24, 48, 96]


def test_an_early_decision_shows_what_is_open():
    bar = html._bar(check(**UNSURE), "robust")
    assert (bar["exact"], bar["low"], bar["high"]) == (False, 0.4, 0.6)


def test_equal_runs_give_equal_pages_whatever_the_time():
    assert len({made(item("a", "failed", check("a", cost=Cost(5, 4, seconds)))) for seconds in (0.3, 7.0)}) == 1


def test_a_comparison_shows_what_was_and_the_drop_beside_its_margin():
    checked = check("a", comparison=comparison(3), broken_by=(*[None] * 6, "pgd", "pgd", "replay", "clean"))
    clean, robust = html._compared(checked)["rows"]
    assert (clean["was"], clean["tone"], clean["drop"]) == ("90.0%", "warn", 50)
    # Six of ten stand now, and the one that only replay breaks stands in a comparison.
    assert (robust["was"], robust["verdict"], robust["tone"]) == ("100.0%", "REGRESSED", "bad")
    assert 50 < robust["margin"] < robust["low"] < robust["drop"] < robust["high"] < 100
    page = Page(made(item("a", "failed", checked)))
    assert "was 90.0%" in page.text
    assert "fell by 30.0 pt, 90% CI of the drop" in page.text


def test_the_curve_of_the_baseline_is_drawn_as_far_as_it_was_compared():
    points = [{"eps": e, "value": v, "n": 10, "bound": "exact", "robust": {"k": 6, "n": 10, "low": 0.1, "high": 0.9}}
              for e, v in (("4/255", 4 / 255), ("8/255", 8 / 255))]  # fmt: skip
    smaller = ThreatSummary("linf", "4/255", 4 / 255, "input", "[0, 1]")
    large, small = check("a", family="f", comparison=comparison(3)), check("b", family="f", threat=smaller)
    family = [large | {"curve": points}, small | {"curve": points}]
    assert html._curve(family[0], family)["before"] == [(0, 24), (560, 24)]
    assert html._curve(family[1], family[1:])["before"] == []
    assert Page(made(item("a", "failed", large), item("b", "failed", small))).text.count("Dotted: main@4f2c9e1") == 2


def test_budgets_are_written_below_the_axis_where_they_have_room():
    points = [{"eps": e, "x": x} for e, x in (("0", 0), ("0.01", 60), ("0.02", 120), ("0.1", 560))]
    assert html._ticks(points) == [(0, "0"), (120, "0.02"), (560, "0.1")]


def test_each_shown_example_says_how_to_replay_it_where_that_is_possible():
    examples = [{"row": 7, "label": "a", "predicted": "b", "by": "pgd", "changes": [], "changed": 1, "features": 2}]
    shown = {"a": {"examples": examples, "missing": ""}}
    checks = [check("a", replay=how) for how in (None, "pytest a --robust-replay 7")]
    pages = [made(item("a", "failed", checked), pictures=shown) for checked in checks]
    assert ["--robust-replay 7</code>" in page for page in pages] == [False, True]
