"""Run the benchmarks: ``python -m benchmarks`` all that need no data, ``python -m benchmarks NAME ...`` one with options.

Each runs in a process of its own, so that none warms up or slows down another.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = ("overhead", "linear", "logit_scale", "masked", "regression", "replay", "rerun", "sampling", "startup")
NAMES = (*ALL, "zoo")


def main(argv: list[str]) -> int:
    if argv and argv[0] not in NAMES:
        print(__doc__, f"\nNAME: {', '.join(NAMES)}")
        return int(argv[0] not in ("-h", "--help"))
    status = 0
    for name in argv[:1] or ALL:
        print(f"== {name}", flush=True)
        status |= subprocess.run([sys.executable, HERE / f"{name}.py", *argv[1:]], check=False).returncode
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
