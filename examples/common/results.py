"""What a run of an example found: its record, and the table of all records.

    python examples/translate.py ... --record examples/records/translation.json     # any example writes one
    python examples/common/results.py                                                      # writes examples/RESULTS.md

Records whose names differ in what stands behind the last dash, sst-0 and sst-1, are runs of one row;
examples/published.toml says what each row is and what others report.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstm_jax.training.metrics import Confusion

HERE = Path(__file__).parent.parent
INSIDE = "inside the 80 % interval"
"""What forecasts measure besides."""
OWN = ("--record", "--picture", "--save", "--seed")
"""Options that are no part of a row's command."""

HEAD = """# Results

Each row is one command; `examples/common/results.py` wrote this table from the records of the runs in
`examples/records` and the published figures in `examples/published.toml`. Several seeds: the mean, and all of them in
brackets. What is naive needs no training of a network and was computed in the same run.

"""


def parse(
    parser: argparse.ArgumentParser, arguments: list[str] | None, example: str, *, saves: bool = True
) -> argparse.Namespace:
    """The example's options, and those that all have; files are named without their folders in ``command``.

    Args:
        saves: whether there is one model to keep.
    """
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a few steps only, to see that everything runs")
    if saves:
        parser.add_argument("--save", type=Path, help="folder to keep the model in")
    parser.add_argument("--record", type=Path, help="JSON file to write the result to")
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words)
    for name in ("picture", "midi", "sound"):
        path = getattr(options, name, None)
        if path is not None and not path.parent.is_dir():
            parser.error(f"--{name}: {path.parent} is not a folder, want one that is there")
    if getattr(options, "resume", False) and options.save is None:
        parser.error("--resume: got no --save, want the folder of the run to go on with")
    shown = [Path(word).name if os.path.exists(word) else word for word in words]
    kept = [word for before, word in zip(["", *shown], shown, strict=False) if before not in OWN and word not in OWN]
    options.command = f"python examples/{Path(example).name} {shlex.join(kept)}".strip()
    return options


def whole(text: str) -> int:
    """A type of option: an integer of at least 1."""
    return _checked(text, int, lambda value: value >= 1, "a whole number of at least 1")


def positive(text: str) -> float:
    """A type of option: a number above 0."""
    return _checked(text, float, lambda value: value > 0, "a number above 0")


def rate(text: str) -> float:
    """A type of option: a share from 0 to below 1."""
    return _checked(text, float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _checked(text: str, kind: Callable[[str], Any], fits: Callable[[Any], bool], wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"got {text}, want {wanted}")
    return value


def record(
    options: argparse.Namespace,
    *,
    params: Any,
    seconds: float,
    measured: dict[str, float],
    naive: dict[str, float],
    notes: str = "",
) -> None:
    """Says where the picture is, and writes what was found, with all that is needed to find it again, to --record."""
    print(f"picture: {options.picture}")
    if options.record is None:
        return
    found = {
        "command": options.command,
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "measured": {name: float(f"{value:.5g}") for name, value in measured.items()},
        "naive": {name: float(f"{value:.5g}") for name, value in naive.items()},
        "notes": notes,
        "machine": f"{platform.machine()}, cores: {_cores()}, {jax.default_backend()}",
        "versions": {name: version(name) for name in ("jax", "lstm_jax")},
        "date": time.strftime("%Y-%m-%d"),
    }
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(found, indent=1) + "\n")


def _cores() -> int | None:
    """Those that this process may use, which ``taskset`` can narrow."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def draw_confusion(found: Confusion, names: list[str], path: Path) -> None:
    """A picture: what each class was taken for."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    size = 2.6 + 0.55 * len(names)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    display = ConfusionMatrixDisplay(np.asarray(found.counts).astype(int), display_labels=names)
    display.plot(ax=figure.subplots(), cmap="cividis", xticks_rotation=60)
    figure.savefig(path, dpi=120)


def table(records: dict[str, list[dict[str, Any]]], rows: list[dict[str, Any]]) -> str:
    """The rows in the order of ``published.toml``; one without a record says so."""
    unknown = set(records) - {row["record"] for row in rows}
    if unknown:
        raise SystemExit(f"published.toml: got no row for the records {sorted(unknown)}, want one for each")
    lines = [
        HEAD + "| application | data | ours | naive | published | parameters | minutes, machine |",
        "| --- " * 7 + "|",
    ]
    commands = ["\n## Commands\n"]
    for row in rows:
        runs = records.get(row["record"], [])
        lines.append(f"| {row['application']} | {row['data']} | {_cells(row, runs)} |")
        commands.extend([f"- {row['application']}, {row['data']}: `{runs[0]['command']}`"] if runs else [])
    return "\n".join([*lines, *commands]) + "\n"


def _cells(row: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """The columns behind the data's name."""
    published = "; ".join(
        f"{one['value']} {one['model']} ({one['source']}{'' if one['verified'] else ', not verified'})"
        for one in row.get("published", [])
    )
    if not runs:
        return f"not measured | | {published or 'none'} | |"
    show = "{:" + row["show"] + "}"
    values = [run["measured"][row["measure"]] for run in runs]
    ours = f"{row['measure']} **{show.format(np.mean(values))}**"
    ours += f" ({', '.join(map(show.format, values))})" if len(runs) > 1 else ""
    inside = [run["measured"][INSIDE] for run in runs if INSIDE in run["measured"]]
    ours += f"; {np.mean(inside):.1%} {INSIDE}" if inside else ""
    naive = ", ".join(
        f"{show.format(value)} {name}" for name, value in runs[0]["naive"].items() if name in row.get("naive", [name])
    )
    minutes = np.mean([run["seconds"] for run in runs]) / 60
    first = runs[0]
    machine = f"{minutes:.1f}, {first['machine']}, jax {first['versions']['jax']}, {first['date']}"
    return f"{ours} | {naive or 'none'} | {published or 'none'} | {first['parameters']:,} | {machine}"


def main(arguments: list[str] | None = None) -> None:
    """Writes RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE, help="with records/ and published.toml (%(default)s)")
    folder = parser.parse_args(arguments).folder
    records = defaultdict(list)
    for path in sorted((folder / "records").glob("*.json")):
        records[path.stem.rpartition("-")[0] or path.stem].append(json.loads(path.read_text()))
    rows = tomllib.loads((folder / "published.toml").read_text())["row"]
    (folder / "RESULTS.md").write_text(table(records, rows))


if __name__ == "__main__":
    main()
