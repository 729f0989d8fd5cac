"""What one typo does to retrieval: the queries of Cranfield against its abstracts, with a real encoder.

The folder of data holds the Cranfield collection as cran.all.1400.xml, cran.qry.xml and cranqrel.trec.txt, the folder of the
model an encoder with its tokenizer (all-MiniLM-L6-v2, say). First metrics of all queries under random edits, ten of each;
then the share of some queries that keep a relevant document among the first ten, and their first result, when the edits are
searched, and in small balls around the embeddings. Vectors of documents are kept in --cache, where it is given.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import torch
from common import quiet, show

from pytest_robust import CharacterEdits, EmbeddingBall, Retriever, evaluate, fluctuation
from pytest_robust.threats import Threat

Queries = list[tuple[str, dict[str, float]]]


def documents(path: Path) -> dict[str, str]:
    """Title and text of each abstract, by its number; the text repeats the title, which is left out."""
    found = {}
    for part in re.findall(r"<doc>(.*?)</doc>", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL):
        title, text = (_field(part, name) for name in ("title", "text"))
        found[_field(part, "docno")] = text if text.startswith(title) else f"{title} {text}"
    return found


def queries(path: Path, judgements: Path) -> Queries:
    """Each query with the grades of its relevant documents. Judgements number the queries in the order of the file."""
    grades: dict[int, dict[str, float]] = {}
    for line in judgements.read_text().splitlines():
        query, _, document, grade = line.split()
        if float(grade) > 0:
            grades.setdefault(int(query), {})[document] = float(grade)
    tops = re.findall(r"<top>(.*?)</top>", path.read_text(encoding="utf-8"), re.DOTALL)
    found = [(_field(top, "title"), grades.get(i, {})) for i, top in enumerate(tops, 1)]
    return [(text, relevant) for text, relevant in found if relevant]


def _field(part: str, name: str) -> str:
    match = re.search(rf"<{name}>(.*?)</{name}>", part, re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the Cranfield collection")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="an encoder with its tokenizer")
    parser.add_argument("--n", type=int, default=20, help="queries that are searched (20)")
    parser.add_argument("--cache", type=Path, help="file for the vectors of the documents")
    args = parser.parse_args(argv)
    quiet()

    from transformers import AutoModel, AutoTokenizer

    model, tokens = AutoModel.from_pretrained(args.model).eval(), AutoTokenizer.from_pretrained(args.model)
    texts = documents(args.data / "cran.all.1400.xml")
    asked = queries(args.data / "cran.qry.xml", args.data / "cranqrel.trec.txt")
    known = {id for _, relevant in asked for id in relevant} - set(texts)
    asked = [(text, {id: grade for id, grade in relevant.items() if id not in known}) for text, relevant in asked]
    asked = [pair for pair in asked if pair[1]]
    if args.cache is not None and args.cache.exists():
        vectors = torch.load(args.cache, weights_only=True)
        corpus = (list(texts), vectors)
    else:
        corpus = texts
    retriever = Retriever(model, tokens, corpus)
    if args.cache is not None and not args.cache.exists():
        torch.save(retriever.corpus.vectors, args.cache)
    corpus = (retriever.corpus.ids, retriever.corpus.vectors)

    rows = []
    for threat in (CharacterEdits(1), CharacterEdits(3)):
        found = fluctuation(retriever, asked, threat, samples=10)
        for name, metric in found.metrics.items():
            low, high = metric.interval()
            figures = [f"{value:.3f}" for value in (metric.clean, metric.mean, metric.worst)]
            rows.append([str(threat.summary()), name, *figures, f"{low:.3f} - {high:.3f}", f"{100 * metric.drop:.1f}%"])
    show(
        rows,
        ["threat", "metric", "clean", "mean", "worst of 10", "95% CI", "drop"],
        f"{len(asked)} queries, {len(texts)} abstracts",
    )

    searched: list[Threat] = [CharacterEdits(1), CharacterEdits(2), EmbeddingBall("1%norm"), EmbeddingBall("5%norm")]
    rows = []
    for holds in ("hit@10", "top-1"):
        keeps = Retriever(model, tokens, corpus, holds=holds)
        for threat in searched:
            began = time.process_time()
            result = evaluate(keeps, asked[: args.n], threat)
            shares = [f"{100 * float(outcomes.mean()):.1f}%" for outcomes in (result.correct, result.robust)]
            passes = f"{(result.cost.forward + result.cost.backward) / len(result.ids):.0f}"
            rows.append(
                [str(threat.summary()), holds, *shares, passes, f"{time.process_time() - began:.0f}", result.health.level]
            )
    print()
    show(
        rows,
        ["threat", "holds", "clean", "robust", "passes/query", "CPU s", "health"],
        f"{args.n} queries, profile standard",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
