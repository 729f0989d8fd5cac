"""The HTML report: whole, escaped, and asking for nothing else."""

from __future__ import annotations

from fractions import Fraction
from html.parser import HTMLParser

from sample_checks import UNSURE, check, health, item

from pytest_robust.evaluation.result import Cost
from pytest_robust.reports import html
from pytest_robust.reports.run import run

VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}


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
    shown = html._curve(check("a", curve=points))
    assert [point["x"] for point in shown["points"]] == [0, 140, 560]
    assert [point["y"] for point in shown["points"]] == [24, 48, 96]


def test_an_early_decision_shows_what_is_open():
    bar = html._bar(check(**UNSURE), "robust")
    assert (bar["exact"], bar["low"], bar["high"]) == (False, 0.4, 0.6)


def test_equal_runs_give_equal_pages_whatever_the_time():
    assert len({made(item("a", "failed", check("a", cost=Cost(5, 4, seconds)))) for seconds in (0.3, 7.0)}) == 1
