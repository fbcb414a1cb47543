"""What a run of an example found: its record, and the table of all records.

python examples/translate.py ... --record examples/records/translate.json     # any example writes one
python examples/results.py                                                    # writes examples/RESULTS.md
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

HERE = Path(__file__).parent


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None, example: str) -> argparse.Namespace:
    """The example's options, and those that all have; files are named without their folders in ``command``."""
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a few steps only, to see that everything runs")
    parser.add_argument("--save", type=Path, help="folder to keep the model in")
    parser.add_argument("--record", type=Path, help="JSON file to write the result to")
    options = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    shown = [Path(word).name if Path(word).exists() else word for word in words]
    options.command = f"python examples/{Path(example).name} {shlex.join(shown)}".strip()
    return options


def record(
    options: argparse.Namespace,
    *,
    params: Any,
    seconds: float,
    measured: dict[str, float],
    naive: dict[str, float],
    notes: str = "",
) -> None:
    """Writes what was found, with all that is needed to find it again, if --record asks for it."""
    if options.record is None:
        return
    found = {
        "command": options.command,
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "measured": measured,
        "naive": naive,
        "notes": notes,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}",
        "versions": {name: version(name) for name in ("jax", "lstm_jax")},
        "date": time.strftime("%Y-%m-%d"),
    }
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(found, indent=1) + "\n")
