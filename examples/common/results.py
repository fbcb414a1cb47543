"""Writes the record of a run, and the table of all records.

    python examples/translate.py ... --record examples/records/translation-0.json      # any example writes one
    python examples/common/results.py                                                  # writes examples/RESULTS.md

Records whose names differ only after the last dash, such as sst-0 and sst-1, are runs of one row of the table.
examples/published.toml describes the rows and lists published results.
"""

import argparse
import json
import os
import platform
import re
import textwrap
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from lstm_jax import training

EXAMPLES_FOLDER = Path(__file__).parent.parent
COVERAGE = "inside the 80 % interval"
"""name of the share of outcomes inside the intervals, in records of forecasts"""

HEAD = """# Results

Each row is one command; `examples/common/results.py` wrote this table from the records of the runs in
`examples/records` and the published figures in `examples/published.toml`. Several seeds: the mean, and all of them in
brackets. What is naive needs no training of a network and was computed in the same run.

"""


class Timer:
    """Context manager that measures the seconds of its block, and turns a CheckpointError into a SystemExit."""

    seconds = 0.0

    def __enter__(self) -> "Timer":
        self.start = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds = time.monotonic() - self.start
        if isinstance(error, training.CheckpointError):
            raise SystemExit(f"--save: {str(error).replace('resume=True', '--resume or --set resume=true')}") from None


def evaluate(loss_fn: Callable[..., Any], params: Any, batches: Any, carry: Any = None) -> dict[str, float]:
    """Returns the metrics of a model over all batches.

    Args:
        loss_fn: a loss as for ``training.fit``.
        params: parameters of the model.
        batches: the batches of one epoch.
        carry: initial recurrent state; None for a stateless loss.
    Returns:
        The value of each metric by name.
    """
    return training.metrics.values(training.make_evaluate(loss_fn)(params, batches, carry))


def print_scores(
    fitted: training.FitResult, meaning: str, scores: Mapping[str, float | Sequence[float]], form: str
) -> None:
    """Prints why training ended, and a table of scores.

    Args:
        fitted: the result of training.
        meaning: the heading of the scores.
        scores: one value or several by name.
        form: format specification of a value, such as ".3f".
    """
    print(f"\nTraining ended: {fitted.stop_reason}, step {int(fitted.state.step)}. {meaning}:")
    width = max(map(len, scores))
    for name, values in scores.items():
        print(f"  {name:{width}} " + " ".join(f"{value:{form}}" for value in np.atleast_1d(values)))


def record(
    options: argparse.Namespace,
    params: Any,
    seconds: float,
    measured: dict[str, float],
    naive: dict[str, float],
    notes: str = "",
) -> None:
    """Writes the record of a run to --record, and prints where the picture is and how to use a model in --save.

    Args:
        options: the result of ``options.parse``.
        params: parameters of the model; the record has their number.
        seconds: training time.
        measured: scores of the model, by the names in published.toml.
        naive: scores of baselines without a network, by name.
        notes: remarks for readers of the record.
    """
    print(f"picture: {options.picture}")
    if options.record is not None:
        fields = {
            "command": options.command,
            "seed": options.seed,
            "seconds": round(seconds, 1),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "measured": {name: float(f"{value:.5g}") for name, value in measured.items()},
            "naive": {name: float(f"{value:.5g}") for name, value in naive.items()},
            "notes": notes,
            "machine": f"{platform.machine()}, cores: {_num_cores()}, {jax.default_backend()}",
            "versions": {name: version(name) for name in ("jax", "lstm_jax")},
            "date": time.strftime("%Y-%m-%d"),
        }
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text(json.dumps(fields, indent=1) + "\n")
    if getattr(options, "save", None) is not None:
        print(f"\nThe model in three lines of Python, in the folder examples:\n\n{usage(options.doc, options.save)}")


def usage(doc: str, folder: Path | None = None) -> str:
    """Returns the lines of Python at the end of an example's docstring.

    Args:
        doc: the docstring.
        folder: replaces the folder in ``load("...")``; None keeps it.
    """
    lines = textwrap.dedent(doc.rstrip().rpartition("\n\n")[2])
    return lines if folder is None else re.sub(r'load\("[^"]*"', f'load("{folder.resolve().as_posix()}"', lines)


def _num_cores() -> int | None:
    """Returns the number of cores that this process may use, which ``taskset`` can restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def table(records: dict[str, list[dict[str, Any]]], rows: list[dict[str, Any]]) -> str:
    """Returns RESULTS.md as text.

    Args:
        records: the records of each row, by the row's record name.
        rows: the rows of published.toml, in order; a row without a record reads "not measured".
    """
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
        lines.append(f"| {row['application']} | {row['data']} | {_format_cells(row, runs)} |")
        commands.extend([f"- {row['application']}, {row['data']}: `{runs[0]['command']}`"] if runs else [])
    return "\n".join([*lines, *commands]) + "\n"


def _format_cells(row: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Returns the cells of a row after application and data."""
    published = "; ".join(
        f"{entry['value']} {entry['model']} ({entry['source']}{'' if entry['verified'] else ', not verified'})"
        for entry in row.get("published", [])
    )
    if not runs:
        return f"not measured | | {published or 'none'} | |"
    show = "{:" + row["show"] + "}"
    values = [run["measured"][row["measure"]] for run in runs]
    measured = f"{row['measure']} **{show.format(np.mean(values))}**"
    measured += f" ({', '.join(map(show.format, values))})" if len(runs) > 1 else ""
    coverage = [run["measured"][COVERAGE] for run in runs if COVERAGE in run["measured"]]
    measured += f"; {np.mean(coverage):.1%} {COVERAGE}" if coverage else ""
    naive = ", ".join(
        f"{show.format(value)} {name}" for name, value in runs[0]["naive"].items() if name in row.get("naive", [name])
    )
    minutes = np.mean([run["seconds"] for run in runs]) / 60
    first_run = runs[0]
    machine = f"{minutes:.1f}, {first_run['machine']}, jax {first_run['versions']['jax']}, {first_run['date']}"
    return f"{measured} | {naive or 'none'} | {published or 'none'} | {first_run['parameters']:,} | {machine}"


def main(arguments: list[str] | None = None) -> None:
    """Writes RESULTS.md from records/ and published.toml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=EXAMPLES_FOLDER, help="holds records/ and published.toml")
    folder = parser.parse_args(arguments).folder
    records = defaultdict(list)
    for path in sorted((folder / "records").glob("*.json")):
        records[path.stem.rpartition("-")[0] or path.stem].append(json.loads(path.read_text()))
    rows = tomllib.loads((folder / "published.toml").read_text())["row"]
    (folder / "RESULTS.md").write_text(table(records, rows))


if __name__ == "__main__":
    main()
