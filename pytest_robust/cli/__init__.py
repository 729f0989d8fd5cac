"""The console script ``pytest-robust``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_robust.errors import RobustError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script; the value is the exit status, 2 where something cannot be found, read or written."""
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows "--" is for pytest.
    own = words.index("--") if words[:1] == ["merge"] and "--" in words else len(words)
    arguments = vars(_parser(words[own + 1 :]).parse_args(words[:own]))
    run = arguments.pop("run_command")
    try:
        status: int = run(**arguments)
    except RobustError as error:
        print(f"pytest-robust: {error}", file=sys.stderr)
        return 2
    return status


def _parser(for_pytest: Sequence[str]) -> argparse.ArgumentParser:
    # What a command needs is imported when it is run: help must not take the seconds of torch.
    parser = argparse.ArgumentParser(prog="pytest-robust", description="Tools around pytest-robust, the pytest plugin.")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser("demo", help="train two small networks on handwritten digits and let pytest judge them")
    demo.set_defaults(run_command=_demo)

    show = commands.add_parser("show", help="print the table and the failed checks of a run once more")
    show.add_argument("run", metavar="RUN", help=_RUN)
    show.set_defaults(run_command=_show)

    compare = commands.add_parser("compare", help="has an accuracy dropped from run A to run B, check by check")
    compare.add_argument("old", metavar="A", help=_RUN)
    compare.add_argument("new", metavar="B", help="likewise")
    compare.add_argument("--margin", default="2pt", metavar="PT", help="drop of robust accuracy that is too much: 2pt")
    compare.add_argument("--clean-margin", default="1pt", metavar="PT", help="the same without attack: 1pt")
    compare.set_defaults(run_command=_compare)

    merge = commands.add_parser(
        "merge",
        help="the verdict on a suite that was run in shards",
        usage="pytest-robust merge SHARD [SHARD ...] [--report PATH] [--update] [-- PYTEST ARGUMENTS]",
        description="Run pytest once more with the arguments of the first shard, and go on from what all shards came to.",
    )
    merge.add_argument("shards", nargs="+", metavar="SHARD", help="the folder of a shard: robust-shards/3-of-16")
    merge.add_argument("--report", action="append", default=[], metavar="PATH", help="as --robust-report of pytest")
    merge.add_argument("--update", action="store_true", help="as --robust-update of pytest")
    merge.set_defaults(run_command=_merge, more=for_pytest)

    baseline = commands.add_parser("baseline", help="the folder of baselines").add_subparsers(
        required=True, metavar="command"
    )
    prune = baseline.add_parser("prune", help="remove the baselines of checks that are no more")
    prune.add_argument("--run", required=True, metavar="RUN", help=f"a run of all checks there are: {_RUN}")
    prune.add_argument("--folder", default=None, metavar="PATH", help="of the baselines: robust-baseline")
    prune.add_argument("--yes", action="store_true", help="remove them; without it they are only listed")
    prune.set_defaults(run_command=_prune)
    return parser


_RUN = "a run in .robust/runs by its name or the beginning of it, last, or a JSON report"


def _demo() -> int:
    from pytest_robust.cli.demo import demo

    return demo()


def _show(run: str) -> int:
    from pytest_robust.cli.runs import show

    return show(run)


def _compare(old: str, new: str, margin: str, clean_margin: str) -> int:
    from pytest_robust.cli.runs import compare

    return compare(old, new, margin, clean_margin)


def _merge(shards: Sequence[str], report: Sequence[str], update: bool, more: Sequence[str]) -> int:
    from pytest_robust.cli.merge import merge

    options = [*(f"--robust-report={path}" for path in report), *(["--robust-update"] if update else [])]
    return merge(shards, [*options, *more])


def _prune(run: str, folder: str | None, yes: bool) -> int:
    from pytest_robust.cli.baseline import prune

    return prune(run, folder, remove=yes)
