"""The documentation tells the truth: its Python runs, its links lead somewhere, and the reference is complete.

In a page, a Python block that starts with ``# name.py`` is that file of the reader's project. ``my_project`` stands for
the reader's own code; here it is ``READERS_CODE``.
"""

from __future__ import annotations

import inspect
import os
import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import pytest_robust
from pytest_robust import Linf, attacks, evaluate, strategies, threats
from pytest_robust.conformance import CHECKS
from pytest_robust.evaluation import beyond, controls, health, preflight, probes
from pytest_robust.evaluation.retry import retry
from pytest_robust.evaluation.schedule import PROFILES
from pytest_robust.pytest_plugin import options
from pytest_robust.reports import mean, monotone
from pytest_robust.store.held import Held
from pytest_robust.store.witness import save_witness

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")

READERS_CODE = '''
import torch


class Brightest(torch.nn.Module):
    """Says which of three colour channels is brightest."""

    def __init__(self, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.head = torch.nn.Linear(3, 3)
        self.head.weight = torch.nn.Parameter(torch.diag(20 * torch.tensor(std)))
        self.head.bias = torch.nn.Parameter(20 * torch.tensor(mean))

    def forward(self, images):
        return self.head(self.backbone(images))


def load_model():
    return Brightest().eval()


def load_untouched_model():
    return Brightest((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).eval()


def load_test_set(n=90):
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    tint = 0.12 * torch.nn.functional.one_hot(labels, 3) + 0.03 * torch.randn(n, 3, generator=random)
    return (0.4 + tint)[:, :, None, None] + 0.1 * torch.rand(n, 3, 6, 6, generator=random), labels


def load_classifier():
    """Trained once for all pages, as a reader's own is."""
    import os
    import train_reviews
    from transformers import BertForSequenceClassification
    folder = os.environ["CLASSIFIER"]
    if not os.path.exists(folder):
        train_reviews.train(load_reviews(1500))[0].save_pretrained(folder)
    return BertForSequenceClassification.from_pretrained(folder).eval(), train_reviews.tokenizer()


def sentiment(texts):
    """Blame and praise, by word: of several words one typo hides one."""
    import train_reviews
    kinds = (train_reviews.BLAME, train_reviews.PRAISE)
    return [[float(sum(word in kind for word in text.split())) for kind in kinds] for text in texts]


def load_translator():
    import train_reviews
    from transformers import BartConfig, BartForConditionalGeneration
    tokenizer = train_reviews.tokenizer()
    torch.manual_seed(1)
    sizes = dict(d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32)
    config = BartConfig(
        vocab_size=len(tokenizer), encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=40,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, **sizes,
    )
    model = BartForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data.mul_(6)
    return model.eval(), tokenizer


def load_chat_model():
    import train_policy
    return train_policy.train()


def load_prompts(kind):
    import train_policy
    return train_policy.prompts(getattr(train_policy, kind))[::2]


def is_refusal(answer):
    return answer.startswith("sorry")


def load_encoder():
    """Random, so that a text is much like the sum of its words."""
    import train_reviews
    from transformers import BertConfig, BertModel
    tokenizer = train_reviews.tokenizer()
    torch.manual_seed(0)
    sizes = dict(hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=128)
    return BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)).eval(), tokenizer


def load_reviews(n=30):
    import reviews
    return reviews.reviews(n, seed=n)


TAGS = ["O", "TOPIC", "PRAISE", "BLAME"]


def tags(text):
    import reviews
    topics = {subject.split()[-1] for subject in reviews.SUBJECTS}
    words = {"TOPIC": topics, "PRAISE": reviews.PRAISE, "BLAME": reviews.BLAME}
    return [next((tag for tag in words if word in words[tag]), "O") for word in text.split()]


def load_tagged_texts():
    return [(text, tags(text)) for text, _ in load_reviews()]


def load_tagger():
    """A linear tagger that is always right."""
    import train_reviews
    import transformers
    tokenizer = train_reviews.tokenizer()
    vocabulary = tokenizer.get_vocab()
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=0, num_attention_heads=2,
        id2label=dict(enumerate(TAGS)), max_position_embeddings=32,
    )
    model = transformers.BertForTokenClassification(config).eval()
    embeddings = model.bert.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.weight.zero_()
        embeddings.word_embeddings.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        for word, i in vocabulary.items():
            embeddings.word_embeddings.weight[i, TAGS.index(tags(word)[0])] += 1
        model.classifier.weight.copy_(torch.eye(4, 8))
    return model, tokenizer
'''
DEFAULT_CONFTEST = """
import pytest
from my_project import load_model, load_test_set

@pytest.fixture
def model():
    return load_model()

@pytest.fixture
def test_set():
    return load_test_set()
"""


def python_files(page: Path) -> dict[str, str]:
    """The Python blocks of a page by file name; a block without a name is a script of its own."""
    files = {}
    for number, block in enumerate(PYTHON.findall(page.read_text(encoding="utf-8"))):
        name = re.match(r"# (\w+\.py)\n", block)
        files[name.group(1) if name else f"test_block_{number}.py"] = block
    return files


@pytest.fixture
def reader(pytester, monkeypatch, tmp_path_factory):
    """A reader's project, empty but for the code that the pages take for granted."""
    pytester.makepyfile(my_project=READERS_CODE)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    theirs = [pytester.path, *(ROOT / "examples" / name for name in ("chat", "text"))]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, theirs)))
    monkeypatch.setenv("CLASSIFIER", str(tmp_path_factory.getbasetemp() / "classifier"))
    return pytester


def write_witness(path: Path) -> None:
    """An adversarial example that a model of the past was wrong on, and the reader's is right on."""
    data = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(1, 3, 6, 6).clone(), torch.tensor([0])
    threat, corner = Linf("0.15"), lambda images: 20 * images[:, :, 0, 0]
    result = evaluate(corner, data, threat, attacks="fgsm-t", waive={"chance": "one example"})
    held = Held("test_release.py::test_release[linf-0.15]", "run", "key", result.ids[0], 0, 1, "fgsm-t", {})
    save_witness(path, held, retry(corner, data, result.ids[0], threat, result.adversarial(0)), threat, None)


@pytest.mark.parametrize("page", [p for p in PAGES if python_files(p)], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_of_the_page_runs(reader, page):
    """In processes of their own: parts of torch and transformers cannot be imported twice in one."""
    files = python_files(page)
    if any("load_classifier" in text for text in files.values()) and find_spec("transformers") is None:
        pytest.skip("needs transformers")
    for name, text in ({"conftest.py": DEFAULT_CONFTEST} | files).items():
        (reader.path / name).write_text(text, encoding="utf-8")
    files.pop("conftest.py", None)  # its fixture test_set is no test
    for kept in set(re.findall(r"witnesses/[\w-]+\.safetensors", "".join(files.values()))):
        write_witness(reader.path / kept)
    tests = {name: text for name, text in files.items() if "def test_" in text}
    for name in files.keys() - tests.keys():
        assert reader.run(sys.executable, name).ret == 0
    if tests:
        count = sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for text in tests.values())
        reader.runpytest_subprocess(*tests).assert_outcomes(passed=count)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_recipe_for_feature_adversaries_comes_as_close_to_the_guide_as_the_ball_allows(reader, norm, seed):
    """An isometry for a backbone: the closest representation is that of the ball's point closest to the guide.

    The model is broken there and nowhere else, and its own gradient is zero everywhere.
    """
    page = ROOT / "docs" / "how-to" / "attacks.md"
    (reader.path / "features.py").write_text(python_files(page)["features.py"], encoding="utf-8")
    towards = runpy.run_path(str(reader.path / "features.py"))["towards"]
    random = torch.Generator().manual_seed(seed)
    x, guide = torch.rand(2, 1, 12, generator=random)
    backbone = torch.nn.Linear(12, 12, bias=False)
    backbone.weight = torch.nn.Parameter(torch.linalg.qr(torch.randn(12, 12, generator=random)).Q)
    eps, way = {"linf": 0.1, "l2": 0.5}[norm], guide - x
    closest = x + (way.clamp(-eps, eps) if norm == "linf" else way * min(1.0, eps / float(way.norm())))

    class Near(torch.nn.Module):
        def forward(self, representations):
            near = ((representations - backbone(closest)).norm(dim=1) < 0.02 * eps).float()
            return torch.stack([0.5 - near, near - 0.5], 1)

    model = torch.nn.Sequential(backbone, Near()).eval()
    attack = pytest_robust.PGD(n_steps=100, step_size=0.5, schedule="cosine")

    def witnesses(stand_in):
        chosen = {"non_differentiable": {"1": stand_in}, "objective": pytest_robust.Targeted(1), "attacks": attack}
        data = x, torch.zeros(1, dtype=torch.int64)
        return pytest_robust.evaluate(model, data, threats.make(norm, eps), **chosen).witnesses

    (found,) = witnesses(towards(backbone(guide).detach(), target=1, classes=2)).values()
    assert (found - closest).norm() < 0.02 * eps + 1e-5
    elsewhere = towards(backbone(1 - guide).detach(), target=1, classes=2)
    assert not witnesses(elsewhere), "towards another guide it does not come there"


def test_the_table_of_the_self_check_is_what_it_prints(reader):
    page = ROOT / "docs" / "how-to" / "selfcheck.md"
    (reader.path / "conftest.py").write_text(python_files(page)["conftest.py"], encoding="utf-8")
    only = ("-k", "linear or units or halves", "-p", "no:randomly")
    shown = reader.runpytest_inprocess("--robust-selfcheck=loudest", *only).outlines
    told = page.read_text(encoding="utf-8").splitlines()

    def rows(lines):
        cells = (re.split(r"  +", line) for line in lines if re.match(r"(linear|units|halves)[\w-]*  ", line))
        return [(check, of, expected, verdict) for check, of, expected, _, verdict in cells]

    assert rows(shown) == rows(told)
    assert [verdict for *_, verdict in rows(told)] == ["pass", "pass", "pass", "FAIL", "pass", "FAIL"]


def test_the_self_check_has_every_check_and_no_other():
    table = (ROOT / "docs" / "how-to" / "selfcheck.md").read_text(encoding="utf-8").split("## The checks")[1].split("## ")[0]
    named = {name for row in re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)}
    families = {
        re.sub(r"^(linear|masked)-.*", lambda m: f"{m[1]}-{'NORM' if m[1] == 'linear' else 'NAME'}", c.name) for c in CHECKS
    }
    assert named == families


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


@pytest.fixture
def help_text(pytester):
    return pytester.runpytest_inprocess("--help").stdout.str()


def test_reference_has_every_option_and_no_other(help_text):
    known = set(re.findall(r"^  (--robust-[a-z-]+)", help_text, re.MULTILINE))
    assert "--robust-eps" in known
    assert set(re.findall(r"^\| `(--robust-[a-z-]+)", REFERENCE, re.MULTILINE)) == known
    assert set(re.findall(r"^\| `(--robust-[a-z-]+)", PAGES[0].read_text(), re.MULTILINE)) == known


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_pages_name_no_option_that_does_not_exist(page, help_text):
    named = set(re.findall(r"--robust-[a-z-]+", page.read_text(encoding="utf-8")))
    assert named <= set(re.findall(r"--robust-[a-z-]+", help_text))


def test_reference_has_every_ini_key_and_no_other(help_text):
    known = set(re.findall(r"^  (robust_[a-z_]+) \(", help_text, re.MULTILINE))
    assert "robust_eps" in known
    assert set(re.findall(r"^\| `(robust_[a-z_]+)`", REFERENCE, re.MULTILINE)) == known


def test_reference_has_every_public_name():
    assert {name for name in pytest_robust.__all__ if not re.search(rf"`{name}\b", REFERENCE)} == set()


def test_reference_has_every_attack_and_no_other():
    table = REFERENCE.split("### Attacks")[1].split("### Strategies")[0]
    assert re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE) == list(attacks.NAMES)


def test_reference_has_every_strategy_and_its_signature():
    table = REFERENCE.split("### Strategies")[1].split("### Errors")[0]
    rows = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", table, re.MULTILINE))
    assert sorted(rows) == sorted(strategies.__all__)
    for name, written in rows.items():
        signature = inspect.signature(getattr(strategies, name))
        known = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "options"]
        said = str(signature.replace(parameters=known, return_annotation=signature.empty)).replace("'", '"')
        assert f"({written})" == said


def test_reference_has_every_profile_as_it_is():
    table = REFERENCE.split("## Profiles")[1].split("## Hooks")[0]
    rows = {
        row[1]: re.findall(r"`([\w-]+)`", row[2]) for row in re.finditer(r"^\| `(\w+)` \| ([^|]*) \|", table, re.MULTILINE)
    }
    assert rows == {name: [step.attack.name for step in profile.steps["smooth"]] for name, profile in PROFILES.items()}
    _, edits, few = re.split("For edits of texts|For image transforms", table)
    for text, terrains, word in ((edits, ("edits", "queries"), "search|hotflip"), (few, ("few",), "sweep")):
        steps = [step for profile in PROFILES.values() for terrain in terrains for step in profile.steps[terrain]]
        named = {name for name in re.findall(r"`([\w-]+)`", text) if re.search(word, name)}
        assert {step.attack.name for step in steps} == named


def test_verdicts_names_every_finding_and_no_other():
    table = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8").split("| finding |")[1].split("## Errors")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)
    code = "".join(map(inspect.getsource, (beyond, controls, health, preflight, probes, monotone, mean)))
    made = re.findall(
        r"(?:(?:HealthCheck|_finding|self\._check|findings\.stop|findings\.add)\(|\"name\":)\s*\"([\w-]+)\"", code
    )
    assert sorted(named) == sorted(set(made))


def test_reference_has_every_norm():
    assert "{" + ",".join(options.NORMS) + "}" in REFERENCE
    assert (*threats.NORMS, threats.CharacterEdits.norm) == options.NORMS


@pytest.mark.parametrize(("function", "next_heading"), [("evaluate", "### `Evaluation`"), ("compare", "### Threats")])
def test_reference_has_the_signature(function, next_heading):
    section = " ".join(REFERENCE.split(f"### `{function}`")[1].split(next_heading)[0].split())
    for name, parameter in inspect.signature(getattr(pytest_robust, function)).parameters.items():
        assert re.search(rf"^.*\| [^|]*`{name}`", section), f"{name} has no row"
        if parameter.default not in (inspect.Parameter.empty, None):
            assert f"{name}={parameter.default!r}".replace("'", '"') in section


def test_reference_has_every_argument_of_the_marker():
    from pytest_robust.pytest_plugin.marker import robust

    section = REFERENCE.split("## Marker")[1].split("## Fixture")[0]
    known = list(inspect.signature(robust).parameters)
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == known
    assert re.sub(r"\*, ", "", re.search(r"pytest\.mark\.robust\(([^)]*)\)", section).group(1)).split(", ") == known


def test_reference_has_every_attribute_of_an_evaluation():
    section = REFERENCE.split("### `Evaluation`")[1].split("### `compare`")[0]
    fields = {name for name in pytest_robust.Evaluation.__dataclass_fields__ if name != "witnesses"}
    methods = {name for name in vars(pytest_robust.Evaluation) if not name.startswith("_")}
    assert {name for name in fields | methods if not re.search(rf"`{name}\b", section)} == set()
