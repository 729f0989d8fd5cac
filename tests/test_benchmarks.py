"""The benchmarks measure what they say: each runs here on little, without data of others and without other libraries."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_robust.conformance.networks import seeded

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = (
    "common",
    "linear",
    "logit_scale",
    "masked",
    "overhead",
    "peers",
    "regression",
    "replay",
    "rerun",
    "retraining",
    "sampling",
    "startup",
    "text",
    "text_peers",
    "text_speed",
    "zoo",
)


@pytest.fixture
def load(monkeypatch):
    """A script as a module; they import each other by bare names, as scripts do."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def same_torch():
    """The scripts set threads, seed and what is logged, as programs may."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)


def test_linear_is_exact(load, capsys):
    assert load("linear").main(["--no-peers"]) == 0
    out = capsys.readouterr().out
    assert "0 of 2000 outcomes differ" in out
    assert out.count("+0.0") == 4


def test_logit_scale_changes_nothing(load, capsys, monkeypatch):
    script = load("logit_scale")
    rest, (x, y) = script.digits()
    monkeypatch.setattr(script, "digits", lambda: (rest, (x[:60], y[:60])))
    assert script.main(["--no-peers"]) == 0
    *accuracies, differing = capsys.readouterr().out.splitlines()[2].split()[2:]
    assert differing == "0"
    assert len(set(accuracies)) == 1
    assert 0 < float(accuracies[0]) < 90


def test_no_model_that_hides_its_gradients_passes_and_no_honest_one_is_suspected(load, capsys):
    """In the longest profile; that the same wrappers get no pass in the standard one is a part of the conformance suite."""
    script = load("masked")
    assert script.main(["--no-peers", "--n", "40", "--profile", "release"]) == 0
    table = capsys.readouterr().out
    for name, (_, finding) in script.WRAPPERS.items():
        (row,) = (line for line in table.splitlines() if line.startswith(f"{name} "))
        assert finding in row
        assert " pass " not in row


def test_overhead_counts_passes(load, capsys):
    script = load("overhead")
    options = ["--no-peers", "--models", "resnet", "--batch", "4", "--steps", "3", "--repeats", "2", "--target"]
    assert script.main([*options, "1000"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:6]]
    counts = [(float(row[-2]), float(row[-1])) for row in rows]
    assert counts[:3] == [(3, 3), (3, 3), (4, 3)]
    assert counts[3][0] > 4
    assert script.main([*options, "0.001"]) == 1


@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_the_bare_loop_stays_in_the_ball(load, model):
    script = load("overhead")
    network = seeded(script.MODELS[model])
    x, y = script.data(network, 4)
    moved = script.bare(network, x, y, 5)
    assert (moved - x).abs().max() <= script.EPS * 1.001
    assert (moved - x).abs().mean() > script.EPS / 10
    assert 0 <= moved.min() <= moved.max() <= 1


def test_startup_measures_with_cached_bytecode(load, monkeypatch, tmp_path):
    """Where no bytecode may be written, each process would compile the plugin, and that would be called its cost."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    script = load("startup")
    script.project(tmp_path)
    script.collect(tmp_path)
    assert [path.name for path in tmp_path.rglob("bytecode/**/pytest_plugin/plugin.*.pyc")]


def test_startup_imports_the_plugin_without_torch(load, capsys):
    assert load("startup").main(["--repeats", "1", "--target", "10000"]) == 0
    assert "imported because of the plugin: none of torch" in capsys.readouterr().out


ZOO = """
import torch
from collections import namedtuple
Entry = namedtuple("Entry", "model images labels eps")
def names():
    return ["line"]
def load(name):
    model = torch.nn.Linear(1, 2)
    model.weight.data = torch.tensor([[0.0], [1.0]])
    model.bias.data = torch.tensor([0.5, 0.0])
    x = torch.linspace(0, 1, 40).view(-1, 1)
    return Entry(model.eval(), x, (x[:, 0] > 0.5).long(), 0.1)
"""


@pytest.mark.parametrize(("reference", "status"), [(0.1, 0), (0.3, 1)])
def test_zoo_compares_with_the_reference(load, capsys, tmp_path, reference, status):
    """A threshold on one number: what is nearer to it than eps is not robust."""
    (tmp_path / "zoo.py").write_text(ZOO, encoding="utf-8")
    x = np.linspace(0, 1, 40)
    robust = np.abs(x - 0.5) > reference
    by = np.where(robust, -1, 1)
    np.savez(tmp_path / "line.reference.npz", clean=np.ones(40, bool), robust=robust, broken_by=by)
    assert load("zoo").main(["--zoo", str(tmp_path)]) == status
    row = capsys.readouterr().out.splitlines()[2].split()
    here = (np.abs(x - 0.5) > 0.1).mean()
    assert row[3:6] == ["100.0", f"{100 * here:.1f}", f"{100 * robust.mean():.1f}"]
    assert [int(row[6]), int(row[7])] == [max(0, round(40 * (here - robust.mean()))), 0]


def test_zoo_names_a_folder_that_is_none(load, tmp_path):
    with pytest.raises(SystemExit, match="has no zoo.py"):
        load("zoo").main(["--zoo", str(tmp_path)])


@pytest.mark.parametrize(
    "name", ["linear", "logit_scale", "masked", "overhead", "regression", "replay", "rerun", "startup", "zoo"]
)
def test_help_says_what_is_measured(load, capsys, name):
    script = load(name)
    with pytest.raises(SystemExit) as ended:
        script.main(["--help"])
    assert ended.value.code == 0
    assert script.__doc__.splitlines()[0] in capsys.readouterr().out


def test_peers_that_are_not_installed_are_named(load, monkeypatch):
    peers = load("peers")
    monkeypatch.setattr(peers.Peer, "installed", None)
    found, line = peers.chosen()
    assert found == []
    assert all(f"{package} not installed" in line for package in ("torchattacks", "foolbox", "cleverhans"))


def test_every_peer_is_compared_in_the_norms_that_all_have(load):
    for peer in load("peers").PEERS:
        assert {"linf", "l2"} <= set(peer.norms) <= {"linf", "l2", "l1"}, peer.name


def test_sampling_measures_what_the_evaluation_does(load, capsys):
    sampling, run = load("sampling"), importlib.import_module("pytest_robust.evaluation.run")
    assert sampling.LOOKS == run._LOOKS
    assert sampling.main(["--repeats", "5"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert len(rows) == 16


def test_regression_prints_what_each_verdict_costs(load, capsys):
    assert load("regression").main(["--repeats", "300"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " / " in line and "%" in line]
    assert len(rows) == 8
    # 4 % of flips allow no drop of 5 points.
    assert [row.split()[-4] for row in rows if " 4% " in row] == ["-"] * 4
    passing = {tuple(row.split()[:2]): int(row.split()[2]) for row in rows}
    assert passing["200", "10%"] < passing["500", "10%"] < passing["1546", "10%"] < passing["5000", "4%"] == 100


@pytest.fixture
def corpus(tmp_path):
    """Sentences of praise and blame, and one that a person rewrote."""
    draw = np.random.default_rng(0)
    words = {1: ["wonderful", "charming", "gripping"], 0: ["terrible", "tedious", "shallow"]}
    subjects = ["the picture", "this story", "every scene", "the music"]
    for name, n in (("train", 400), ("test", 20), ("dev", 20)):
        lines = [f"{i % 2} {draw.choice(subjects)} was {draw.choice(words[i % 2])} number{i}" for i in range(n)]
        for folder in ("trec6", "sst2"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.txt").write_text("\n".join(lines))
    (tmp_path / "imdb_cad").mkdir()
    pairs = [("Positive", "a wonderful story, well told", 1), ("Negative", "a terrible story, badly told", 1)]
    rows = ["\t".join(map(str, row)) for row in [("Sentiment", "Text", "batch_id"), *pairs]]
    (tmp_path / "imdb_cad" / "dev_paired.tsv").write_text("\n".join(rows))
    return tmp_path


def test_text_classifiers_are_attacked_and_rewritten_reviews_are_out_of_budget(load, corpus, capsys):
    pytest.importorskip("transformers")
    load("text").main(["--data", str(corpus), "--n", "12", "--epochs", "2"])
    out = capsys.readouterr().out
    assert all(f"characters {k}" in out for k in (1, 2, 3))
    assert "DeepWordBug" in out
    assert [line.split()[-2:] for line in out.splitlines() if line.startswith("characters 3")][-1] == ["1", "1"]


def test_searches_are_compared_one_by_one(load, corpus, capsys, monkeypatch):
    pytest.importorskip("transformers")
    script = load("text")
    monkeypatch.setattr(script, "SEARCHES", (script.HotFlip(n_steps=4), script.GCG(n_steps=8, width=3)))
    assert script.main(["--data", str(corpus), "--n", "6", "--epochs", "2", "--searches"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("characters", "words", "suffix"))]
    assert len(rows) == 9
    assert all(line.split()[2] == rows[0].split()[2] and line.count("(") == 2 for line in rows)


def test_without_textattack_there_is_nothing_to_compare_with(load, corpus, capsys, monkeypatch):
    script = load("text_peers")

    def absent(name):
        raise script.PackageNotFoundError(name)

    monkeypatch.setattr(script, "version", absent)
    assert script.main(["--data", str(corpus)]) == 0
    assert capsys.readouterr().out == "textattack is not installed: nothing to compare with\n"


def test_as_many_broken_texts_cost_the_smallest_number_of_calls_that_is_enough(load):
    script = load("text_peers")
    calls, broken = np.array([3, 5, 4, 90, 20, 90]), np.array([True, True, True, False, True, False])
    assert script.as_many(calls, broken, 3) == (3 + 5 + 4 + 5 + 5 + 5) / 3
    assert script.as_many(calls, broken, 4) == (3 + 5 + 4 + 20 + 20 + 20) / 4
    assert script.as_many(calls, broken, 5) is script.as_many(calls, broken, 0) is None


@pytest.mark.parametrize(
    ("exhaustive", "same", "theirs", "fine"),
    [
        (True, True, 50, True),
        (True, True, 49, False),
        (False, True, 1, True),
        (True, False, 50, True),
    ],
)
def test_what_an_exhaustive_search_costs_is_held_against_five_times_ours(load, exhaustive, same, theirs, fine):
    script = load("text_peers")
    what = script.Compared("some", script.CharacterEdits(1), None, exhaustive, same)
    both = [(np.array([theirs, theirs]), np.array([True, False])), (np.array([10, 100]), np.array([True, False]))]
    cells, good = script.row(what, [("a", 0)] * 2, both)
    assert good is fine
    assert cells[3:6] == ["1", f"{theirs:.1f}", f"{2 * theirs:.1f}"]
    assert cells[6:9] == ["1", "10.0", f"{theirs / 10:.1f}"]
    fewer = [both[0], (both[1][0], np.array([False, False]))]
    assert script.row(what, [("a", 0)] * 2, fewer)[1] is (not exhaustive and not same)


def test_deep_word_bug_finds_the_word_that_decides(load):
    script = load("text")

    def score(texts):
        return torch.tensor([[float("gripping" in text), 0.5] for text in texts])

    found, queries = script.deep_word_bug(score, "another gripping story", 0, script.CharacterEdits(1))
    assert found
    assert queries <= 3 + 4


@pytest.fixture
def encoder(load, tmp_path):
    """The folder of a tiny encoder with its tokenizer."""
    transformers = pytest.importorskip("transformers")
    tokens = load("text").tokenizer(["the picture was wonderful", "a terrible story"], 60)
    config = transformers.BertConfig(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    for part in (transformers.BertModel(config), tokens):
        part.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_embedding_pgd_costs_little_more_than_a_bare_loop(load, corpus, encoder, capsys):
    arguments = ["--model", str(encoder), "--data", str(corpus), "--n", "6", "--steps", "2", "--repeats", "1"]
    assert load("text_speed").main([*arguments, "--target", "1000"]) == 0
    assert "x bare loop" in capsys.readouterr().out


def test_queries_with_typos_find_other_documents(load, encoder, tmp_path, capsys):
    texts = [
        f"the {noun} was {word}"
        for noun in ("picture", "story")
        for word in ("wonderful", "terrible", "fine", "dull", "odd", "flat")
    ]
    abstracts = [f"<doc><docno>{i}</docno><title></title><text>{text}</text></doc>" for i, text in enumerate(texts, 1)]
    (tmp_path / "cran.all.1400.xml").write_text("\n".join(abstracts))
    tops = [f"<top><num>{7 * i}</num><title>{texts[i].split()[1]} {texts[i].split()[3]}</title></top>" for i in range(3)]
    (tmp_path / "cran.qry.xml").write_text("\n".join(tops))
    (tmp_path / "cranqrel.trec.txt").write_text("1 0 1 2\n2 0 2 1\n2 0 3 1\n3 0 3 1\n3 0 99 -1\n")
    script = load("retrieval")
    assert script.queries(tmp_path / "cran.qry.xml", tmp_path / "cranqrel.trec.txt")[1][1] == {"2": 1, "3": 1}
    arguments = ["--data", str(tmp_path), "--model", str(encoder), "--n", "2", "--cache", str(tmp_path / "vectors.pt")]
    assert script.main(arguments) == 0
    out = capsys.readouterr().out
    assert "3 queries, 12 abstracts" in out
    assert "ndcg@10" in out
    assert "top-1" in out


def test_translations_of_typos_are_measured(load, tmp_path, capsys):
    pytest.importorskip("transformers")
    pytest.importorskip("sacrebleu")
    words = {"picture": "film", "story": "histoire", "wonderful": "superbe", "terrible": "affreux", "fine": "bien"}
    pairs = [
        f"the {a} is {b}\tle {words[a]} est {words[b]}\tCC"
        for a in ("picture", "story")
        for b in ("wonderful", "terrible", "fine")
    ]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs), encoding="utf-8")
    arguments = ["--data", str(tmp_path / "pairs.txt"), "--n", "3", "--searched", "2", "--epochs", "1"]
    assert load("translation").main(arguments) == 0
    out = capsys.readouterr().out
    assert "3 sentences; hallucinations" in out
    assert "consistent at 0.7" in out


def test_replay_counts_what_is_found_again(load, capsys, monkeypatch, tmp_path):
    """On nearly the same model all is found again, by a pass and one to verify it; on another one less."""
    script = load("replay")
    x = torch.linspace(0, 1, 40).view(-1, 1)
    line, near, far = (torch.nn.Linear(1, 2) for _ in range(3))
    for model, bias in ((line, 0.5), (near, 0.5001), (far, 0.3)):
        model.weight.data, model.bias.data = torch.tensor([[0.0], [1.0]]), torch.tensor([bias, 0.0])
    data, threat = (x, (x[:, 0] > 0.5).long()), script.Linf("0.1")
    cells, broken, found = script.row(script.Step("line", "near", [line], near, data, [threat]), threat)
    assert broken == found == 8
    assert cells[5:9] == ["8", "8", "100%", "2.00"]
    step = script.Step("line", "far", [line], far, data, [threat])
    assert script.row(step, threat)[2] < 8
    monkeypatch.setattr(script, "of_digits", lambda: iter([step]))
    (tmp_path / "zoo.py").write_text(ZOO.replace('["line"]', '["line", "again"]'), encoding="utf-8")
    assert [script.main(["--target", target, "--zoo", str(tmp_path)]) for target in ("0", "100")] == [0, 1]
    out = capsys.readouterr().out
    assert "target 100%" in out
    assert out.count("again") == 4


def test_rerun_finds_every_check_finished(load, capsys, monkeypatch):
    script = load("rerun")
    one, _ = script.DIGITS.rsplit("def test_large", 1)
    monkeypatch.setattr(script, "SUITES", {"one": (one, ())})
    measured, run = [], script.run

    def measure(*args, **options):
        measured.append(run(*args, **options))
        return measured[-1]

    monkeypatch.setattr(script, "run", measure)
    assert script.main(["--repeats", "1", "--target", "1000"]) == 0
    # The same figures are too slow for another target.
    monkeypatch.setattr(script, "run", lambda *_, **__: measured.pop(0))
    monkeypatch.setattr(script, "train", lambda model, *_, **__: model)
    assert script.main(["--repeats", "1", "--target", "0.001"]) == 1
    assert "every check of every rerun was found finished" in capsys.readouterr().out


def test_retraining_counts_every_pass_and_stops_in_time(load):
    script = load("retraining")
    task = script.digits_task()
    small = script.Task(
        "small", task.model, tuple(part[:96] for part in task.train), tuple(part[:40] for part in task.test), 0.1
    )
    model, spent = script.trained_until(script.madry, small, 0.01, most=3000)
    assert 3000 <= spent <= 3000 + 2 * 64
    assert small.epoch == 2 * 96
    before = torch.cat([p.flatten() for p in small.model.parameters()])
    assert not torch.equal(before, torch.cat([p.flatten() for p in model.parameters()]))
    robust, clean = script.judged(small, model)
    assert 0 <= robust <= clean <= 40
