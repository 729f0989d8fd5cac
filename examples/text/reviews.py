"""Film reviews from a small grammar. Words of praise or blame decide the label, "not" turns them round."""

from __future__ import annotations

import random

Reviews = list[tuple[str, int]]

SUBJECTS = (
    "the film",
    "this movie",
    "the plot",
    "the acting",
    "the ending",
    "the music",
    "the script",
    "every scene",
    "the cast",
)
VERBS = ("was", "is", "seemed", "felt", "looked")
DEGREES = ("", "really", "very", "rather", "quite", "simply", "truly")
PRAISE = ("good", "great", "wonderful", "moving", "funny", "clever", "charming", "superb", "gripping", "fresh")
BLAME = ("bad", "awful", "boring", "dull", "clumsy", "silly", "tedious", "shallow", "stale", "weak")
ENDINGS = ("", "to me", "from start to finish", "for a change", "as my friends said", "on the whole", "in the second half")


def reviews(n: int, seed: int) -> Reviews:
    """``n`` sentences with label 1 for praise, 0 for blame; about a third contain "not"."""
    draw = random.Random(seed)
    return [_review(draw, label=i % 2) for i in range(n)]


def _review(draw: random.Random, label: int) -> tuple[str, int]:
    negated = draw.random() < 1 / 3
    verdict = draw.choice(PRAISE if bool(label) != negated else BLAME)
    words = [draw.choice(SUBJECTS), draw.choice(VERBS), "not" * negated, draw.choice(DEGREES), verdict, draw.choice(ENDINGS)]
    return " ".join(filter(None, words)), label
