"""Edits of texts through the whole engine, on models whose weaknesses are known."""

from __future__ import annotations

import itertools

import pytest
import torch
from text_models import WORDS, scored

from pytest_robust import CharacterEdits, HotFlip, Linf, Noise, TextFunction, WordEdits, evaluate
from pytest_robust.errors import ThreatError
from pytest_robust.threats.edits import edited

pytest.importorskip("transformers")

PRAISE, BLAME = ("good", "fine", "great"), ("bad", "poor", "awful")
TEXTS = [
    (f"the {thing} was {degree} {word}", int(word in PRAISE))
    for thing, degree, word in itertools.product(("film", "plot"), ("very", "not"), (*PRAISE, *BLAME))
]
WORTH = {**dict.fromkeys(PRAISE, 1.0), **dict.fromkeys(BLAME, -1.0)}
SUBSTITUTES = {word: [other for other in WORDS if other != word] for word in WORDS}


def as_function(model, tokens):
    def classify(texts):
        with torch.no_grad():
            return model(**tokens(texts, return_tensors="pt", padding=True))

    return TextFunction(classify)


def exhaustive(model, tokens, text, label, threat):
    """Whether any text within the threat, of all there are, is misclassified."""
    options = [option for site in threat.sites(text) for option in site.options]
    texts = [text]
    for k in range(1, int(float(threat.budget)) + 1):
        texts += [edited(text, chosen) for chosen in itertools.combinations(options, k)]
    texts = [other for other in dict.fromkeys(texts) if threat.measure(text, other, 9) <= float(threat.budget)]
    with torch.no_grad():
        logits = torch.cat(
            [model(**tokens(texts[i : i + 512], return_tensors="pt", padding=True)) for i in range(0, len(texts), 512)]
        )
    return bool((logits.argmax(1) != label).any())


def rugged():
    """Letters have worths of their own, so that some typos turn a text and others do not."""
    worth = {letter: 0.37 * ((7 * i) % 5 - 2) for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    worth |= {f"##{letter}": value for letter, value in worth.items()}
    return scored({**worth, **WORTH, "very": 0.4, "not": -0.3, "film": 0.5, "plot": -0.5})


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("black_box", [False, True])
def test_typos_are_found_where_they_exist(k, black_box):
    model, tokens = rugged()
    threat = CharacterEdits(k)
    data = [(text, label) for text, label in TEXTS if bool(model(**tokens([text], return_tensors="pt")).argmax() == label)]
    assert len(data) > 10
    data = data[-12:]
    result = evaluate(
        as_function(model, tokens) if black_box else (model, tokens), data, threat, profile="release",
        waive={"chance": "few texts"},
    )  # fmt: skip
    truth = [not exhaustive(model, tokens, text, label, threat) for text, label in data]
    assert 0 < sum(truth) < len(truth)
    assert result.robust.tolist() == truth


def test_a_trigger_word_is_found_with_one_edit():
    """One word of all turns every text; the gradient says which, and where."""
    model, tokens = scored({**WORTH, "magic": -9.0, "film": 0.5}, offset=0.1)
    praise = [(text, label) for text, label in TEXTS if label]
    result = evaluate(
        (model, tokens), praise, WordEdits(1, substitutes=lambda word: ["magic"] if word == "the" else ["very"]),
        attacks=HotFlip(n_steps=2), waive={"chance": "one class"},
    )  # fmt: skip
    assert result.accuracy == 0
    assert all(result.adversarial(i)[0, 0] == 1 for i in range(len(praise)))


def test_models_that_read_nothing_that_changes_are_untouched():
    model, tokens = scored({"good": 1.0, "bad": -1.0})
    data = [("good magic films", 1), ("bad magic films", 0), ("good plots", 1), ("bad plots", 0)] * 3
    result = evaluate((model, tokens), data, CharacterEdits(3, shortest=5), profile="release", waive={"chance": "few"})
    assert result.accuracy == 1.0
    assert result.believable


def test_every_break_is_within_the_budget_and_breaks():
    model, tokens = rugged()
    threat = CharacterEdits(2)
    result = evaluate((model, tokens), TEXTS, threat, waive={"chance": "few texts"})
    assert result.changed
    for i, (clean, changed) in result.changed.items():
        assert clean == TEXTS[i][0]
        assert 1 <= threat.measure(clean, changed, 9) <= 2
        assert int(model(**tokens([changed], return_tensors="pt")).argmax()) != TEXTS[i][1]


def test_what_measures_as_more_edits_is_no_break(monkeypatch):
    model, tokens = rugged()
    monkeypatch.setattr(CharacterEdits, "measure", lambda self, clean, changed, most: most + 1)
    result = evaluate((model, tokens), TEXTS, CharacterEdits(2), waive={"chance": "few texts"})
    assert result.robust.tolist() == result.correct.tolist()
    assert not result.believable


@pytest.mark.parametrize("batch_size", [1, 5])
def test_outcomes_do_not_depend_on_batches_or_order(batch_size):
    model, tokens = rugged()
    one = evaluate((model, tokens), TEXTS, CharacterEdits(1), waive={"chance": "few texts"})
    other = evaluate((model, tokens), TEXTS[::-1], CharacterEdits(1), batch_size=batch_size, waive={"chance": "few texts"})
    assert one.robust.tolist() == other.robust.tolist()[::-1]
    assert [one.changed.get(i) for i in range(len(TEXTS))] == [
        other.changed.get(len(TEXTS) - 1 - i) for i in range(len(TEXTS))
    ]


def test_a_search_that_is_too_weak_is_noticed():
    model, tokens = rugged()
    result = evaluate((model, tokens), TEXTS, CharacterEdits(2), attacks=HotFlip(n_steps=1), waive={"chance": "few texts"})
    assert {check.name: check.level for check in result.health.checks}["black-box"] != "trusted"


def test_random_typos_are_no_evidence():
    model, tokens = rugged()
    result = evaluate((model, tokens), TEXTS, CharacterEdits(1), attacks=Noise(10), waive={"chance": "few texts"})
    assert not result.believable or "edit-search-all" in result.attacks


def test_pairs_of_texts_are_edited_in_both_parts():
    model, tokens = rugged()
    pairs = [((text, "the plot was fine"), label) for text, label in TEXTS]
    result = evaluate((model, tokens), pairs, CharacterEdits(1), waive={"chance": "few texts"})
    parts = {i for clean, changed in result.changed.values() for i in (0, 1) if clean[i] != changed[i]}
    assert parts == {0, 1}


@pytest.mark.parametrize(
    "attack", ["pgd", "fgsm", "noise", "hotflip", "edit-search", "relaxed-pgd", "gcg", "square", "apgd-ce"]
)
def test_attacks_that_move_in_balls_run_on_edits(attack):
    model, tokens = rugged()
    result = evaluate((model, tokens), TEXTS, CharacterEdits(2), attacks=attack, waive={"chance": "few texts"})
    assert all(CharacterEdits(2).measure(clean, changed, 9) <= 2 for clean, changed in result.changed.values())


def test_edits_of_what_is_no_text_are_refused():
    with pytest.raises(ThreatError, match="CharacterEdits edits texts, but Linear takes tensors; give a text model"):
        evaluate(torch.nn.Linear(4, 2), (torch.eye(4), [0, 1, 0, 1]), CharacterEdits(1))


def test_balls_around_functions_of_texts_are_refused():
    with pytest.raises(ThreatError, match="moves numbers, but classify is a function of texts; use CharacterEdits"):
        evaluate(as_function(*rugged()), TEXTS, Linf("8/255"))


def test_texts_in_which_nothing_can_be_edited_are_said():
    model, tokens = scored(WORTH)
    data = [("is bad", 0), ("is good", 1), ("was fine", 1), ("was poor", 0)]
    result = evaluate((model, tokens), data, CharacterEdits(1, shortest=5), waive={"chance": "few"})
    (check,) = [check for check in result.health.checks if check.name == "room"]
    assert check.level == "invalid"
