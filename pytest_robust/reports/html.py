"""The report for people in a browser: one file that asks for nothing else. Needs jinja2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_robust.regression import REPLAY
from pytest_robust.reports import selfcheck, texts, words
from pytest_robust.reports.record import Record
from pytest_robust.reports.run import Run, gate_line

_CLASSES = 20
_WIDTH, _HEIGHT = 560, 240
"""Of the plot of the curve, without its margins."""
_APART = 75
"""Room that the text of a budget needs below the axis."""
_GATE = {"pass": "PASS", "fail": "FAIL", "incomplete": "INCOMPLETE", "none": "NOT GATED"}
_TONES = {True: "good", False: "bad", None: "plain"}


def render(run: Run, pictures: Mapping[str, Record] | None = None) -> str:
    """The page: the gate, then each check, failures first and unfolded. Equal for equal runs, whatever the time.

    Args:
        pictures: by check id, what ``store.pictures`` made of its broken examples.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}%"
    names = words.names(run)
    rows = [_check(check, names[check["id"]], (pictures or {}).get(check["id"]), run["checks"]) for check in run["checks"]]
    rows += [
        {"name": names[id], "id": id, "badge": what, "message": message, "tone": "bad" if good is False else "warn"}
        for id, what, message, good in words.unanswered(run)
    ]
    order = ["bad", "warn", "plain", "good"]
    verdict, sentence = run["gate"]["verdict"], gate_line(run)
    if "selfcheck" in run:
        # Nothing else is in such a run.
        verdict, sentence = run["selfcheck"]["verdict"], selfcheck.summary(run["selfcheck"])
    text = environment.get_template("page.html").render(
        gate=_GATE[verdict],
        tone={"pass": "good", "fail": "bad"}.get(verdict, "warn"),
        sentence=sentence,
        selfcheck=run.get("selfcheck"),
        rows=sorted(rows, key=lambda row: order.index(row["tone"])),
        version=run["tool"]["version"],
    )
    return text.encode("utf-8", "backslashreplace").decode()  # a text may hold lone surrogates


def _check(check: Record, name: str, pictures: Record | None, checks: Sequence[Record]) -> Record:
    """What the page shows of a check; ``checks``: those of the run, for its other budgets."""
    good, n = words.good(check), check["n"]
    against, waived = words.findings(check)
    attacks, others = words.outcomes(check)
    warned = good is None and (check["verdict"] == "fail" or bool(against))
    shown = words.worst_classes(check)[:_CLASSES] if check["bound"] == "exact" and len(check["classes"]) > 1 else []
    return {
        "name": name,
        "id": check["id"],
        "tone": "warn" if warned else _TONES[good],
        "badge": words.verdict(check),
        "sentence": words.verdict_in_full(check),
        "threat": words.threat_in_full(check),
        "floor": check["floor"],
        "figure": words.figure(check),
        "written": words.written(check),
        "measure": words.is_mean(check),
        "examples": "Texts that lose the most" if words.is_mean(check) else "Broken examples",
        "clean": _bar(check, "clean"),
        "robust": _bar(check, "robust"),
        "comparison": check["comparison"] and _compared(check),
        "level": check["health"]["level"],
        "against": against,
        "waived": waived,
        "seen": "; ".join(c["detail"] for c in check["health"]["checks"] if c["waived"] is None and c not in against),
        "outcomes": [] if words.is_mean(check) else _outcomes(attacks, others, n),
        "classes": [(words.class_name(c), c["k"], c["n"], c["k"] / c["n"]) for c in shown],
        "more_classes": len(check["classes"]) - len(shown) if shown else 0,
        "curve": _curve(check, [other for other in checks if check["curve"] and other["curve"] == check["curve"]]),
        "weakest": check["weakest"] and words.weakest(check),
        "texts": [_text(text, check["threat"]["norm"]) for text in check["examples"]["texts"]],
        "facts": _facts(check),
        "notes": [*check["notes"], *(f"retrained: {text}" for text in words.retrained(check))],
        "commands": words.commands(check),
        "replays": check.get("replay") is not None,
        "misses_floor": words.misses_floor(check),
        "pictures": pictures,
    }


def _text(text: Record, norm: str) -> Record:
    """A broken text: what went and what came, with whatever does not show made visible."""
    parts = [(kind, texts.visible(piece)) for kind, piece in texts.pieces(text, norm)]
    return {"row": text["index"], "turned": words.turned(text), "by": text["by"], "pieces": parts}


def _bar(check: Record, which: str) -> Record:
    """An accuracy with what is sure of it: the 95 % interval, or of a bound what was not decided."""
    k, n = check[which]["k"], check["n"]
    low, high = check[which]["low"], check[which]["high"]
    exact = low is not None
    if not exact:
        undecided, sample = n - check["decided"], check["sample"]
        if sample is not None:
            low, high = sample["least"] / n, sample["most"] / n
        else:
            low, high = (k - undecided, k) if check["bound"] == "upper" else (k, k + undecided)
            low, high = low / n, high / n
    text = words.percent(k, n) if which == "clean" else words.bounded(check)
    return {
        "text": text,
        "share": k / n,
        "low": low,
        "high": high,
        "exact": exact,
        "about": f"95% CI {words.interval(check, which)}" if exact else words.interval(check, which),
    }


def _compared(check: Record) -> Record:
    comparison = check["comparison"]
    return {
        "against": comparison["against"],
        "verdict": _loud(comparison["verdict"]),
        "rows": [_change(check, name) for name in ("clean", "robust") if comparison[name] is not None],
        "paired": words.paired(check),
        "unlike": comparison["unlike"],
        "reasons": comparison["reasons"],
    }


def _change(check: Record, which: str) -> Record:
    """A drop with its interval and its margin, in percent of a bar in whose middle nothing has changed."""
    change = check["comparison"][which]
    low, high, margin = change["low"], change["high"], change["margin"]
    half: float = 1.15 * max(-low, high, margin)

    def at(drop: float) -> float:
        return round(50 + 50 * drop / half, 2)

    way = "rose" if change["drop"] < 0 else "fell"
    moved = f"{way} by {100 * abs(change['drop']):.1f} pt" if change["drop"] else "did not change"
    sure = f"{100 * change['confidence']:g}% CI of the drop {100 * low:.1f} to {100 * high:.1f}"
    tones = {"regressed": "bad", "pass": "good"}
    return {
        "name": which,
        "was": f"{100 * _before(check, which):.1f}%",
        "about": f"{moved}, {sure}, margin {100 * margin:g} pt",
        "verdict": _loud(change["verdict"]),
        "tone": tones.get(change["verdict"], "warn"),
        "low": at(low),
        "high": at(high),
        "drop": at(change["drop"]),
        "margin": at(margin),
    }


def _before(check: Record, which: str) -> float:
    """The accuracy of the baseline. What replay alone broke the comparison counts as robust."""
    replayed = check["examples"]["broken_by"].count(REPLAY) if which == "robust" else 0
    was: float = (check[which]["k"] + replayed) / check["n"] + check["comparison"][which]["drop"]
    return was


def _loud(verdict: str) -> str:
    return "REGRESSED" if verdict == "regressed" else verdict


def _outcomes(attacks: dict[str, int], others: dict[str, int], n: int) -> list[tuple[str, int, float, str]]:
    kinds = {"survivors": "good", "undecided": "open"}
    rows = [(name, count, "bad") for name, count in attacks.items()]
    rows += [(name, count, kinds.get(name, "plain")) for name, count in others.items()]
    return [(name, count, count / n, kind) for name, count, kind in rows if count]


def _curve(check: Record, family: Sequence[Record]) -> Record | None:
    """The points in the units of the plot, accuracy without attack at budget 0 the first.

    Args:
        family: the checks of its budgets, itself included; where they were compared, the curve of the baseline is drawn too.
    """
    points = check["curve"]
    if not points:
        return None
    largest = points[-1]["value"]
    clean = {"eps": "0", "value": 0.0, "n": check["n"], "robust": check["clean"], "bound": "exact"}
    placed: list[dict[str, Any]] = []
    for point in (clean, *points):
        rate = point["robust"]
        placed.append(
            {
                "eps": point["eps"],
                "text": words.bounded(point),
                "x": _across(point["value"] / largest),
                "y": _down(rate["k"] / point["n"]),
                "top": None if rate["high"] is None else _down(rate["high"]),
                "bottom": None if rate["low"] is None else _down(rate["low"]),
                "here": point["eps"] == check["threat"]["eps"],
            }
        )
    compared = [other for other in family if other["comparison"] is not None]
    before = [(0.0, other, "clean") for other in compared[:1]]
    before += [(other["threat"]["value"], other, "robust") for other in compared]
    before = [entry for entry in before if entry[1]["comparison"][entry[2]] is not None]
    before.sort(key=lambda entry: entry[0])
    return {
        "points": placed,
        "ticks": _ticks(placed),
        "width": _WIDTH,
        "height": _HEIGHT,
        "floor": None if check["floor"] is None else _down(check["floor"]),
        "norm": check["threat"]["norm"],
        "before": [(_across(value / largest), _down(_before(other, which))) for value, other, which in before],
        "against": compared[0]["comparison"]["against"] if before else None,
    }


def _across(share: float) -> float:
    return round(_WIDTH * share, 1)


def _down(accuracy: float) -> float:
    return round(_HEIGHT * (1 - accuracy), 1)


def _ticks(points: Sequence[Record]) -> list[tuple[float, str]]:
    """Budgets to write below the axis: the largest, and of the others those that have room."""
    chosen: list[tuple[float, str]] = []
    for point in reversed(points):
        if not chosen or chosen[-1][0] - point["x"] >= _APART:
            chosen.append((point["x"], point["eps"]))
    return chosen[::-1]


def _facts(check: Record) -> list[tuple[str, str]]:
    return [
        ("model", check["model"]),
        ("examples", f"{check['n']:,}, {check['decided']:,} decided"),
        ("profile", f"{check['profile']}, seed {check['seed']}"),
        ("attacks", ", ".join(check["attacks"])),
        ("cost", words.cost(check, seconds=False)),
    ]
