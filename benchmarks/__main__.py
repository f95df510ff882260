"""`python -m benchmarks [--quick] [NAME ...]`: measures, prints a table, writes bench.json.

Each module of `MODULES` has `run(quick)`, which gives rows `{"name", "ratio", "target", "holds", ...}`. Ratios compare
two things measured in turns in the same run, so they mean something on a busy machine too.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

MODULES = (
    "engine",
    "pipeline",
    "gallery",
    "upload",
    "drawing",
    "queue",
    "evaluation",
    "training",
    "training_run",
    "hot_swap",
)
RESULT = Path(__file__).resolve().parent.parent / "bench.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer photos and rounds: to see that it works")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(MODULES)}; all without")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MODULES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    rows: list[dict[str, Any]] = []
    for name in arguments.names or MODULES:
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"benchmarks.{name}").run(arguments.quick)
        except Exception as error:  # noqa: BLE001  (one benchmark that breaks must not hide the others' results)
            rows.append({"name": name, "ratio": None, "target": None, "holds": False, "error": repr(error)})
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    return 0 if all(row["holds"] for row in rows) else 1


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people; what is not in the fixed columns follows behind."""
    fixed = ("name", "ratio", "target", "holds", "better")
    lines = [f"{'benchmark':<28}{'ratio':>9}{'target':>9}  holds"]
    for row in rows:
        ratio, target = (f"{row[key]:.3f}" if row[key] is not None else "-" for key in ("ratio", "target"))
        more = ", ".join(
            f"{key} {value}" for key, value in row.items() if key not in fixed and not isinstance(value, dict)
        )
        lines.append(f"{row['name']:<28}{ratio:>9}{target:>9}  {'yes' if row['holds'] else 'NO':<6} {more}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
