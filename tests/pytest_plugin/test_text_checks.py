"""Checks of text models by options, markers and baselines, on the real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import ARGUMENTS

import pytest_robust.evaluation.units  # a run inside a test forgets the modules that it imported itself
import pytest_robust.models.edited  # noqa: F401

pytest.importorskip("transformers")

PROJECT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import itertools
import torch
from text_models import SummedLinear, tokenizer

WAIVE = {{"chance": "few", "black-box": "smoke"}}
GOOD = ("good", "fine", "great")

def known(scale=1.0):
    tokens = tokenizer()
    model = SummedLinear(len(tokens), dimensions=2).eval()
    with torch.no_grad():
        model.embeddings.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.embeddings.weight.mul_(scale)
        model.head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) / scale)
        model.head.bias.zero_()
    return model, tokens

model, tokens = known()
words = (("film", "plot"), ("very", "not"), ("good", "fine", "bad"))
texts = [f"the {{a}} was {{b}} {{c}}" for a, b, c in itertools.product(*words)]
data = [(text, int(model(**tokens([text], return_tensors="pt")).argmax())) for text in texts]
image = torch.nn.Linear(4, 2)
"""
PLAIN = """
import pytest, project as p
def test_text(robust): robust(p.known({scale}), p.data, waive=p.WAIVE)
"""


@pytest.fixture
def real(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(project=PROJECT)
    pytester.syspathinsert()

    def runner(source: str, *args: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        return pytester.runpytest_inprocess(*ARGUMENTS, "-Wignore", "--robust-device=cpu", *args)

    return runner


def threats():
    return [check["threat"] for check in json.loads(Path("r.json").read_text())["checks"]]


def test_characters_are_a_norm_of_options_and_marker(real):
    plain = PLAIN.format(scale=1.0)
    result = real(plain, "--robust-norm=characters", "--robust-eps=1,2", "--robust-report=r.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["test_text?characters-1? *characters 1 *", "test_text?characters-2? *characters 2 *"])
    assert [(one["norm"], one["value"], one["space"]) for one in threats()] == [
        ("characters", 1.0, "text"),
        ("characters", 2.0, "text"),
    ]
    marked = plain.replace("def", "@pytest.mark.robust(norm='characters', eps=1, min_accuracy='100%')\ndef")
    failed = real(marked, "--robust-report=r.json")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(['weakest hit  #* flips at 1 edit: "*[[]*>*]*"'])
    (check,) = json.loads(Path("r.json").read_text())["checks"]
    assert check["examples"]["texts"][0]["index"] == check["weakest"]["index"]


@pytest.mark.parametrize(
    ("model", "options", "complaint"),
    [
        (
            "p.image",
            ["--robust-norm=characters", "--robust-eps=1"],
            "'characters' counts edits of texts, and",
        ),
        (
            "p.known()",
            ["--robust-norm=characters", "--robust-eps=0.5"],
            "counts edits and must be a whole number, got 0.5",
        ),
        (
            "p.known()",
            ["--robust-eps=8/255"],
            "eps 8/255 is *% of a token norm, *nn on this model: it is a pixel budget",
        ),
        (
            "p.image",
            ["--robust-eps=2%norm"],
            "eps 2%norm is in a unit of token embeddings; it is for EmbeddingBall",
        ),
    ],
)
def test_what_does_not_go_together_is_one_error(real, model, options, complaint):
    result = real(f"import project as p\ndef test_it(robust): robust({model}, p.data, waive=p.WAIVE)\n", *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{complaint}*"])


def test_force_and_edits(real):
    source = (
        "import project as p\nfrom pytest_robust import CharacterEdits, EmbeddingBall\n"
        "def test_it(robust): robust(p.known(), p.data, {}, waive=p.WAIVE)\n"
    )
    forced = ("--robust-force", "--robust-report=r.json")
    edits = source.format("CharacterEdits(1, kinds='swap')")
    real(edits, "--robust-eps=2", *forced).assert_outcomes(passed=1)
    assert [(one["norm"], one["eps"]) for one in threats()] == [("characters", "2")]
    ball = source.format("EmbeddingBall('0.1')")
    real(ball, "--robust-norm=characters", "--robust-eps=2", *forced).assert_outcomes(passed=1)
    assert [(one["norm"], one["eps"]) for one in threats()] == [("characters", "2")]
    for option, complaint in (
        ("--robust-norm=l2", "cannot put the norm l2 in place of characters 1, edits of texts; drop --robust-norm"),
        ("--robust-eps=8/255", "k counts edits and must be a whole number, got 8/255"),
    ):
        result = real(edits, option, "--robust-force")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*{complaint}*"])


@pytest.mark.parametrize("eps", ["10%norm", "typo:1"])
def test_a_baseline_keeps_its_radius_until_the_scale_is_another(real, eps):
    """A release with embeddings 2 % larger is compared at the radius of the baseline, one of 10 % is not compared."""
    options = ("--robust-norm=l2", f"--robust-eps={eps}", "--robust-report=r.json")
    real(PLAIN.format(scale=1.0), *options, "--robust-update").assert_outcomes(passed=1)
    (baseline,) = Path("robust-baseline").rglob("*.json")
    first = json.loads(baseline.read_text())["threat"]
    assert first["eps"] == f"{eps} ({first['value']:.4g})"

    near = real(PLAIN.format(scale=1.02), *options, "--robust-baseline")
    (check,) = json.loads(Path("r.json").read_text())["checks"]
    assert check["threat"]["value"] == first["value"]
    assert check["comparison"]["unlike"] is None
    assert any(note.startswith(f"eps {eps} is {first['value']:.4g} as in the baseline") for note in check["notes"])
    assert near.ret == 0

    real(PLAIN.format(scale=1.1), *options, "--robust-baseline")
    (check,) = json.loads(Path("r.json").read_text())["checks"]
    assert check["threat"]["value"] == pytest.approx(1.1 * first["value"], rel=0.02)
    assert check["comparison"]["unlike"] == "incomparable"
    assert check["comparison"]["reasons"][0].startswith(f"eps differs: {first['eps']} in the baseline, {eps} (")

    # A baseline that is written anew is measured anew.
    real(PLAIN.format(scale=1.02), *options, "--robust-update")
    assert json.loads(baseline.read_text())["threat"]["value"] != first["value"]


def test_a_curve_in_units_has_its_floors(real):
    source = (
        "import project as p\nfrom pytest_robust import EmbeddingBall\n"
        "def test_it(robust):\n"
        "    robust.curve(p.known(), p.data, norm='l2', min_accuracy={'1%norm': 0.1, '300%norm': 1}, waive=p.WAIVE)\n"
    )
    result = real(source, "--robust-report=r.json")
    result.assert_outcomes(failed=1)
    checks = json.loads(Path("r.json").read_text())["checks"]
    assert [(check["id"].rsplit("@")[1], check["floor"]) for check in checks] == [("1%norm", 0.1), ("300%norm", 1.0)]
