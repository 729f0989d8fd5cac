"""What one typo does to translation: a small model, trained on the spot on sentence pairs.

The file of pairs holds lines ENGLISH<tab>FRENCH, and more columns that do not matter (eng-fra.txt of the Tatoeba project). A
Bart of two and two layers of 96 learns from all but --n of the pairs; of these, chrF and consistency are then taken of the
sentences as they are and of ten random typos of each, and the share of some that stay consistent when the typo is searched.
"Hallucinations" are sentences whose translation has a chrF of 0.4 or more, and with the worst typo below 0.1. A change of
the source that is as large as that of the translation proves nothing about it: "true successes" are sentences of which some
typo has chrF(source, changed source) + relative loss of chrF above 1 (Michel et al., NAACL 2019).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import quiet, show
from text import tokenizer

from pytest_robust import CharacterEdits, Translator, evaluate, fluctuation

_SAMPLES = 10


def trained(pairs: list[tuple[str, str]], epochs: int) -> tuple[Any, Any]:
    """A small Bart and its tokenizer, for both languages."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokens = tokenizer([text for pair in pairs for text in pair], size=5000)
    torch.manual_seed(0)
    pad, bos, eos = map(tokens.convert_tokens_to_ids, ("[PAD]", "[CLS]", "[SEP]"))
    config = BartConfig(
        vocab_size=len(tokens), d_model=96, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=256, decoder_ffn_dim=256, max_position_embeddings=72, init_std=0.1,
        pad_token_id=pad, bos_token_id=bos, eos_token_id=eos, decoder_start_token_id=eos, forced_eos_token_id=eos,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = epochs * -(-len(pairs) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(epochs):
        for rows in torch.randperm(len(pairs)).split(64):
            chosen = [pairs[i] for i in rows.tolist()]
            columns = tokens([source for source, _ in chosen], padding=True, truncation=True, return_tensors="pt")
            labels = tokens([target for _, target in chosen], padding=True, truncation=True, return_tensors="pt")[
                "input_ids"
            ]
            optimizer.zero_grad()
            model(**columns, labels=labels.masked_fill(labels == pad, -100)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval(), tokens


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="lines ENGLISH<tab>FRENCH")
    parser.add_argument("--n", type=int, default=200, help="sentences that are kept to test on (200)")
    parser.add_argument("--searched", type=int, default=30, help="of these, how many are attacked (30)")
    parser.add_argument("--epochs", type=int, default=20, help="of training (20)")
    args = parser.parse_args(argv)
    quiet()

    lines = [line.split("\t")[:2] for line in args.data.read_text(encoding="utf-8").splitlines() if "\t" in line]
    pairs = list(dict.fromkeys((source, target) for source, target in lines))
    order = np.random.default_rng(0).permutation(len(pairs))
    pairs = [pairs[i] for i in order]
    began = time.process_time()
    model, tokens = trained(pairs[args.n :], args.epochs)
    training = time.process_time() - began
    translator = Translator(model, tokens, holds="consistency>=0.7", max_new_tokens=32)
    sources = [source for source, _ in pairs[: args.n]]
    found = fluctuation(translator, pairs[: args.n], CharacterEdits(1), samples=_SAMPLES)
    rows = [
        [name, *(f"{value:.3f}" for value in (metric.clean, metric.mean, metric.worst))]
        for name, metric in found.metrics.items()
    ]
    counts = f"hallucinations {found.hallucinations}, true successes {found.true_successes}"
    about = f"{args.n} sentences; {counts}; training {training:.0f} CPU s"
    show(rows, ["metric", "clean", "mean of 10 typos", "worst of 10"], about)

    began = time.process_time()
    result = evaluate(translator, sources[: args.searched], CharacterEdits(1), profile="smoke", n=args.searched)
    passes = (result.cost.forward + result.cost.backward) / len(result.ids)
    row = ["characters 1", str(len(result.ids)), f"{100 * float(result.robust.mean()):.1f}%", f"{passes:.0f}"]
    print()
    headers = ["threat", "n", "consistent at 0.7", "passes/sentence", "CPU s"]
    show([[*row, f"{time.process_time() - began:.0f}"]], headers, "profile smoke: ten texts led by the gradient")
    return 0


if __name__ == "__main__":
    sys.exit(main())
