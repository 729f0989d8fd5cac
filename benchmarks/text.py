"""Text classifiers under edits and embedding balls, and what the search costs.

A small BERT with a WordPiece vocabulary of its own is trained on the spot on TREC-6 or SST-2, in a folder with ``trec6`` and
``sst2``, each with train.txt and test.txt of lines ``LABEL TEXT``. Its test sentences are then attacked: by the worst of ten
random typos, by the profile ``standard`` within k typos, by one word in place of another from a table of the test words, and
by embedding balls. "passes/break" are forward and backward passes of the attacks on a text that they break, on average, and
"passes/survivor" those on a text that they do not. DeepWordBug is the published greedy search (Gao et al., 2018), written
down here and counted the same way: every word is left out once to rank the words, then in that order typos are kept where
they lower the score of the label most. It is a search for one of the texts that break, and no evidence about the others.

With ``--searches`` each search by itself comes in place of all that: texts broken, and the passes that it took.

Where the folder has ``imdb_cad`` with dev_paired.tsv, reviews that people rewrote until their label changed are measured
against the budgets: all of them must be out of budget, but for those that differ in a typo or two only. Exit status 1 when
one in a hundred is not, or when the engine breaks fewer texts than DeepWordBug does.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import quiet, show

from pytest_robust import (
    GCG,
    CharacterEdits,
    EditSearch,
    EmbeddingBall,
    HotFlip,
    Noise,
    RelaxedPGD,
    SimplexPGD,
    Suffix,
    WordEdits,
    evaluate,
)
from pytest_robust.evaluation import Evaluation
from pytest_robust.evaluation.alone import attack_alone
from pytest_robust.evaluation.result import CLEAN
from pytest_robust.threats import Edits, Threat
from pytest_robust.threats.edits import edited

HEADERS = ["threat", "attacks", "n", "clean", "robust", "passes/break", "passes/survivor", "CPU s", "health"]
Labelled = list[tuple[str, int]]
SEARCHES = (
    HotFlip(n_steps=80),
    EditSearch(n_steps=100),
    RelaxedPGD(n_steps=50),
    SimplexPGD(n_steps=66),
    GCG(n_steps=100),
)
"""Of about as many passes where they break nothing."""


def sentences(path: Path) -> Labelled:
    """Lines ``LABEL TEXT``, each once."""
    lines = path.read_text(encoding="latin-1").splitlines()
    pairs = [line.partition(" ") for line in lines if line.strip()]
    return list(dict.fromkeys((text.strip(), int(label)) for label, _, text in pairs))


def tokenizer(texts: list[str], size: int, limit: int = 64) -> Any:
    """A WordPiece vocabulary learnt from the texts, in BERT's form, for so many tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    core.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False))
    known = core.get_vocab()
    core.post_processor = processors.BertProcessing(("[SEP]", known["[SEP]"]), ("[CLS]", known["[CLS]"]))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=limit, **names)


def trained(data: Labelled, epochs: int, limit: int = 64) -> tuple[Any, Any]:
    """A two-layer BERT and its tokenizer, trained on the data, for so many tokens."""
    from transformers import BertConfig, BertForSequenceClassification

    tokens = tokenizer([text for text, _ in data], 4000, limit)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=limit, num_labels=1 + max(label for _, label in data),
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(64):
            chosen = [data[i] for i in rows.tolist()]
            columns = tokens([text for text, _ in chosen], padding=True, truncation=True, return_tensors="pt")
            optimizer.zero_grad()
            model(**columns, labels=torch.tensor([label for _, label in chosen])).loss.backward()
            optimizer.step()
    return model.eval(), tokens


def swaps(data: Labelled) -> dict[str, list[str]]:
    """For each word of the data, others of the same length and first letter: a table that claims no meaning."""
    words = sorted({word for text, _ in data for word in text.split() if word.isalpha()})
    alike: dict[tuple[str, int], list[str]] = {}
    for word in words:
        alike.setdefault((word[0], len(word)), []).append(word)
    return {word: [other for other in alike[word[0], len(word)] if other != word][:16] for word in words}


def deep_word_bug(
    score: Callable[[list[str]], torch.Tensor], text: str, label: int, threat: CharacterEdits
) -> tuple[bool, int]:
    """Whether greedy search breaks a text within the threat, and how many texts it tried (Gao et al., 2018)."""
    sites = threat.sites(text)
    words = list(dict.fromkeys(site.word for site in sites))
    if not words:
        return False, 0
    without = score([text[:start] + text[end:] for start, end in words])
    queries, taken, best = len(words), [], score([text])[0, label]
    for word in sorted(range(len(words)), key=lambda i: float(without[i, label])):
        options = [option for site in sites if site.word == words[word] for option in site.options]
        # One typo of each kind, at the word's first letter that can have it, as published: swap, replace, delete, insert.
        kinds = {(len(option.new) - (option.end - option.start), option.end - option.start): option for option in options}
        tried = [edited(text, [*taken, option]) for option in kinds.values()]
        found = score(tried)
        queries += len(tried)
        place = int(found[:, label].argmin())
        if float(found[place, label]) < float(best):
            best = found[place, label]
            taken.append(list(kinds.values())[place])
        if int(found[place].argmax()) != label:
            return True, queries
        if len(taken) == float(threat.budget):
            break
    return False, queries


def row(threat: Threat, result: Evaluation, seconds: float) -> list[str]:
    """A line of the table."""
    groups = (result.correct & ~result.robust, result.robust)
    per_text = [f"{result.passes[group].mean():.1f}" if group.any() else "-" for group in groups]
    shares = [f"{100 * float(outcomes.mean()):.1f}%" for outcomes in (result.correct, result.robust)]
    attacks = ", ".join(stage.attack for stage in result.stages)
    about = [str(threat.summary()), attacks, str(len(result.ids))]
    return [*about, *shares, *per_text, f"{seconds:.1f}", result.health.level]


def rewritten(path: Path) -> Iterator[tuple[str, str]]:
    """Each review, and what a person made of it so that its label changed."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    by_pair: dict[str, list[str]] = {}
    for line in rows:
        by_pair.setdefault(line["batch_id"], []).append(line["Text"])
    yield from ((texts[0], texts[1]) for texts in by_pair.values() if len(texts) == 2)


def searches(model: Any, data: Labelled) -> list[list[str]]:
    """What each search breaks by itself, and for how many passes."""
    threats: list[Edits] = [kind(k) for kind in (CharacterEdits, _swapped(data), Suffix) for k in (1, 2, 3)]
    rows = []
    for threat in threats:
        found = [attack_alone(model, data, threat, attack, device="cpu") for attack in SEARCHES]
        right = [by for by in found[0].broken_by if by != CLEAN]
        counts = [sum(by not in (None, CLEAN) for by in one.broken_by) for one in found]
        cells = [f"{count} ({one.passes.sum()})" for one, count in zip(found, counts, strict=True)]
        rows.append([str(threat.summary()), str(len(right)), *cells])
    return rows


def _swapped(data: Labelled) -> Callable[[int], Edits]:
    table = swaps(data)
    return lambda k: WordEdits(k, substitutes=table)


def out_of_budget(path: Path) -> tuple[list[list[str]], bool]:
    """How many of the rewritten reviews each budget refuses."""
    pairs = list(rewritten(path))
    threats: list[tuple[Edits, Callable[[str], int]]] = [
        (CharacterEdits(1), lambda _: 1),
        (CharacterEdits(3), lambda _: 3),
        (WordEdits(1, substitutes={}), lambda _: 1),
    ]
    rows = []
    for threat, most in threats:
        refused = sum(threat.measure(one, other, most(one)) > most(one) for one, other in pairs)
        rows.append([str(threat.summary()), str(len(pairs)), str(refused)])
    return rows, all(int(refused) >= 0.99 * int(count) for _, count, refused in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the corpora")
    parser.add_argument("--set", choices=("trec6", "sst2"), default="trec6", help="which of them")
    parser.add_argument("--n", type=int, default=200, help="test sentences (200)")
    parser.add_argument("--epochs", type=int, default=5, help="of training (5)")
    parser.add_argument("--searches", action="store_true", help="each search by itself")
    args = parser.parse_args(arguments)
    quiet()

    model, tokens = trained(sentences(args.data / args.set / "train.txt"), args.epochs)
    data = sentences(args.data / args.set / "test.txt")[: args.n]
    if args.searches:
        names = [f"{attack.name}, {attack.n_steps} points" for attack in SEARCHES]
        show(searches((model, tokens), data), ["threat", "right", *names], f"{args.set}: broken (passes)")
        return 0
    norms = model.get_input_embeddings().weight.norm(dim=1)
    balls = [EmbeddingBall(f"{share * float(norms.median()):.3g}", norm="l2") for share in (0.05, 0.2)]
    checks: list[tuple[Threat, Any]] = [
        (CharacterEdits(1), Noise(10)), (CharacterEdits(1), None), (CharacterEdits(2), None), (CharacterEdits(3), None),
        (WordEdits(1, substitutes=swaps(data)), None), *((ball, None) for ball in balls),
    ]  # fmt: skip
    rows, results = [], {}
    for threat, attack in checks:
        began = time.process_time()
        results[str(threat.summary()), attack] = result = evaluate((model, tokens), data, threat, attacks=attack)
        rows.append(row(threat, result, time.process_time() - began))

    @torch.no_grad()
    def score(texts: list[str]) -> torch.Tensor:
        return model(**tokens(texts, padding=True, truncation=True, return_tensors="pt")).logits.log_softmax(1)

    fine = True
    for k in (1, 2):
        ours = results[f"characters {k}", None]
        began = time.process_time()
        right = [pair for pair, correct in zip(data, ours.correct, strict=True) if correct]
        theirs = [deep_word_bug(score, text, label, CharacterEdits(k)) for text, label in right]
        broken = sum(success for success, _ in theirs)
        queries = [[count for success, count in theirs if success == wanted] for wanted in (True, False)]
        rows.append([f"characters {k}", "DeepWordBug", str(len(data)), f"{100 * len(right) / len(data):.1f}%",
                     f"{100 * (len(right) - broken) / len(data):.1f}%",
                     *(f"{sum(counts) / max(1, len(counts)):.1f}" for counts in queries),
                     f"{time.process_time() - began:.1f}", ""])  # fmt: skip
        fine &= int((ours.correct & ~ours.robust).sum()) >= broken
    show(rows, HEADERS, f"{args.set}; median norm of an embedding {float(norms.median()):.3f}")
    pairs = args.data / "imdb_cad" / "dev_paired.tsv"
    if pairs.exists():
        refused, all_refused = out_of_budget(pairs)
        print()
        show(refused, ["budget", "reviews rewritten to the other label", "out of budget"])
        fine &= all_refused
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
