"""Broken texts in reports: what went and what came, and nothing of a text is ever markup."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_checks import check, item

from pytest_robust.evaluation.result import Weakest
from pytest_robust.reports import html, markdown, terminal, words
from pytest_robust.reports.run import run
from pytest_robust.reports.texts import in_line, pieces, visible
from pytest_robust.threats.summary import ThreatSummary

NASTY = "<script>alert(1)</script> | `a` *b* [c](d) \\ \n\r\t & @me #1 www.x.yz \ud800 \x07 \u200b \u202e ~~e~~ good"
ANY = st.text(st.characters(exclude_categories=()), max_size=30)


def entry(clean, changed):
    parts = [[side] if isinstance(side, str) else list(side) for side in (clean, changed)]
    return {"index": 7, "clean": parts[0], "changed": parts[1]}


def broken(changed, **more):
    """A check whose texts, by row, became others; row 7 is the weakest."""
    values = {
        "threat": ThreatSummary("characters", "2", 2.0, "text", "texts"),
        "weakest": Weakest(7, f"{7:016x}", 1, 0, 1.0, "1"),
        "changed": changed,
    }
    return check(**values | more)


@pytest.mark.parametrize(
    ("norm", "clean", "changed", "line"),
    [
        ("characters", "the film was good", "the film was goid", "the film was go[o>i]d"),
        ("characters", "the film", "the filmm", "the film[>m]"),
        ("characters", "the film", "the fim", "the fi[l>]m"),
        ("words", "a good film", "a gold film", "a [good>gold] film"),
        ("characters", ("one", "good two"), ("one", "gppd two"), "one | g[oo>pp]d two"),
        ("characters", "caf\xe9 a\tb \\", "caf\xe9 a\tc \\", "caf\\xe9 a\\t[b>c] \\\\"),
        ("characters", "pay", "p\u0430y", "p[a>\\u0430]y"),
    ],
)
def test_a_line_says_what_became_of_a_text(norm, clean, changed, line):
    assert in_line(entry(clean, changed), norm) == line


def test_far_from_changes_what_stayed_is_left_out():
    before, after = "x" * 500 + " ", " " + "y" * 500
    line = in_line(entry(f"{before}good{after}", f"{before}gppd{after}"), "characters")
    assert line == "..." + "x" * 38 + " g[oo>pp]d " + "y" * 38 + "..."


@given(ANY, ANY, st.sampled_from(["characters", "words"]))
def test_pieces_are_both_texts_and_lines_are_ascii(clean, changed, norm):
    found = pieces(entry(clean, changed), norm)
    assert "".join(text for kind, text in found if kind != "new") == clean
    assert "".join(text for kind, text in found if kind != "gone") == changed
    line = in_line(entry(clean, changed), norm)
    assert line.isascii()
    assert line.isprintable()
    visible(clean).encode()
    assert visible(clean).isprintable()


def test_texts_of_any_length_are_compared_at_once():
    clean = " ".join(f"word{i}" for i in range(3000))
    assert ("new", "x") in pieces(entry(clean, clean.replace("word1500", "wxrd1500")), "characters")


def test_the_section_shows_the_weakest_and_says_how_it_was_searched():
    texts = {7: ("the film was good", "the film was goid"), 6: ("a", "b")}
    shown = terminal.section(broken(texts))
    assert 'weakest hit  #7 dog -> cat, flips at 1 edit: "the film was go[o>i]d"' in shown
    assert "threat       characters 2, edits of texts, untargeted, white box" in shown
    assert "at 2 edits" in words.weakest(broken(texts, weakest=Weakest(7, "", 1, 0, 2.0, "2")))
    assert "black box" in words.threat_in_full(broken(texts) | {"cost": {"forward": 9, "backward": 0, "seconds": 1.0}})


def test_the_section_of_a_nasty_text_is_ascii():
    assert terminal.section(broken({7: (NASTY, NASTY.replace("good", "gold"))})).isascii()


def test_the_record_has_a_few_texts_the_weakest_first():
    texts = {row: (f"text {row}", (f"new {row}", "pair")) for row in (7, *range(6), 8)}
    found = broken(texts)["examples"]["texts"]
    assert [text["index"] for text in found] == [7, 0, 1, 2, 3, 4]
    assert found[0] == {
        "index": 7, "label": 1, "predicted": 0, "label_name": "dog", "predicted_name": "cat", "by": "pgd",
        "clean": ["text 7"], "changed": ["new 7", "pair"],
    }  # fmt: skip
    assert check()["examples"]["texts"] == []


def test_markdown_has_a_table_of_texts_in_which_nothing_is_markup():
    texts = {7: (NASTY, NASTY.replace("good", "gold")), 6: ("the film", "the fim")}
    shown = markdown.render(run([item("a", "failed", broken(texts))], missing=(), complete=True, version="1"))
    shown.encode()
    rows = re.findall(r"^\| #\d.*", shown, re.MULTILINE)
    assert [row.count("|") for row in rows] == [4, 4]
    cell = rows[0].rsplit("|", 2)[1].strip()
    assert set(re.findall(r"<[^>]*>", cell)) == {"<del>", "</del>", "<ins>", "</ins>"}
    plain = re.sub(r"</?ins>|<del>[^<]*</del>", "", cell)
    assert not set(re.sub(r"&#\d+;", "", plain)) & set("<>|`*_[]()\\~@#&.:")
    assert unescape(plain) == visible(NASTY.replace("good", "gold"))
    assert "the fi<del>l</del>m" in rows[1]
    assert "<table>" not in markdown.render(run([item("a", "failed", check())], missing=(), complete=True, version="1"))


class Seen(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self.marked = [], [], {"del": [], "ins": []}
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.inside:
            del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag) :]

    def handle_data(self, data):
        if "blockquote" in self.inside:
            self.text += data if self.inside[-1] != "del" else ""
        if self.inside and self.inside[-1] in self.marked:
            self.marked[self.inside[-1]].append(data)


def test_html_marks_what_went_and_what_came():
    texts = {7: (NASTY, NASTY.replace("good", "gold"))}
    missing = {"a": {"examples": [], "missing": "no adversarial example has inputs to look at"}}
    page = html.render(run([item("a", "failed", broken(texts))], missing=(), complete=True, version="1"), missing)
    page.encode()
    seen = Seen(page)
    assert "script" not in seen.tags
    assert seen.marked == {"del": ["o"], "ins": ["l"]}
    assert seen.text == visible(NASTY.replace("good", "gold"))
    assert "#7 dog -&gt; cat, by pgd" in page
    assert "no adversarial example has inputs" not in page
    assert "no adversarial example has inputs" in html.render(
        run([item("a", "failed", check("a"))], missing=(), complete=True, version="1"), missing
    )
