"""Every workload, every library, one process, one run.

    python -m benchmarks.run --quick                  # three workloads, 3 minutes
    python -m benchmarks.run                          # all workloads and sweeps, at most 40 minutes
    python -m benchmarks.run base long --seconds 30   # some, measured for longer

Measures the forward pass, and value and gradient with respect to parameters and inputs, on whatever device jax finds.
Results of all rows are compared before any is timed. The file of results is written anew after each cell, whole or
not at all; a run that was interrupted goes on with ``--output`` and its file. ``python -m benchmarks.report FILE ...``
makes the tables.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.measure import LIMIT, measure, rows_of
from benchmarks.programs import modes, nominal_flops
from benchmarks.workloads import ALL, QUICK, SWEEPS, WORKLOADS

LEAST, MOST = 6, 60
"""Rounds of a cell."""
PACKAGES = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy")
RESULTS = Path(__file__).parent / "results"


def cell_result(name: str, mode: str, seconds: float) -> dict[str, Any]:
    """Measures one workload in one mode: what ``report`` needs, as plain numbers and texts."""
    workload = ALL[name]
    rows = rows_of(workload, mode, few=name not in WORKLOADS)
    times = measure(rows, seconds, LEAST, MOST)
    return {
        "workload": name,
        "mode": mode,
        **workload._asdict(),
        "flops": nominal_flops(workload, mode),
        "limit": {"seconds": _short(times[LIMIT]), "flops": 2 * 1024**3},
        "rows": {
            row: {
                "seconds": _short(times.get(row)),
                "first_seconds": values.first,
                "temporary_bytes": values.memory,
                "reason": values.reason,
            }
            for row, values in rows.items()
        },
    }


def _short(seconds: list[float] | None) -> list[float] | None:
    """Four digits are more than a clock repeats."""
    return None if seconds is None else [float(f"{value:.4g}") for value in seconds]


def environment() -> dict[str, Any]:
    """Where and with what: device, machine, versions, precision, date."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    device = jax.devices()[0]
    precision = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009  not in its stub
    return {
        "date": str(date.today()),
        "device": device.device_kind,
        "platform": device.platform,
        "machine": f"{platform.machine()}, {processor()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "precision": f"float32, matrix products {precision or 'at the default'}",
    }


def processor() -> str:
    """The processor's name as Linux tells it, or as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def write_whole(path: Path, results: dict[str, Any]) -> None:
    """Replaces the file in one move, so that it is never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    part.replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"workloads: {', '.join(WORKLOADS)}; sweeps: {', '.join(SWEEPS)}")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--seconds", type=float, default=15.0, help="measuring time of a cell (%(default)s)")
    parser.add_argument("--output", type=Path, help="the file of results; continued if it exists")
    options = parser.parse_args()
    chosen = options.names or (QUICK if options.quick else [*WORKLOADS, *SWEEPS])
    unknown = [name for name in chosen if name not in ALL and name not in SWEEPS]
    if unknown:
        parser.error(f"got {unknown}, want workloads of {', '.join(WORKLOADS)} or sweeps of {', '.join(SWEEPS)}")
    names = [inner for name in chosen for inner in SWEEPS.get(name, [name])]
    here = environment()
    stamp = time.strftime("%Y%m%dT%H%M%S")
    path = options.output or RESULTS / f"{here['platform']}-jax{here['versions']['jax']}-{stamp}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"environment": here, "cells": []}
    other = [key for key in here if key != "date" and results["environment"][key] != here[key]]
    if other:
        parser.error(f"--output: got {path}, made with another {' and '.join(other)}; want a new file")
    print(f"if interrupted, goes on with --output {path}")
    done = {(cell["workload"], cell["mode"]) for cell in results["cells"]}
    cells = [(name, mode) for name in names for mode in modes(ALL[name]) if (name, mode) not in done]
    bar = tqdm(cells, unit="cell")
    for name, mode in bar:
        bar.set_postfix_str(f"{name}, {mode}")
        results["cells"].append(cell_result(name, mode, options.seconds))
        write_whole(path, results)
        tqdm.write(summary(results["cells"][-1]))
    print(f"{path}\nTables and pictures: python -m benchmarks.report {path}")


def summary(cell: dict[str, Any]) -> str:
    """One line a row: milliseconds and how many times slower than the first of ours."""
    ours = np.array(next(row["seconds"] for row in cell["rows"].values() if row["seconds"]))
    lines = [f"{cell['workload']}, {cell['mode']}"]
    for name, row in cell["rows"].items():
        if row["seconds"]:
            seconds = np.array(row["seconds"])
            lines.append(f"  {name:32} {np.median(seconds) * 1e3:10.3f} ms  {np.median(seconds / ours):5.2f}")
        else:
            lines.append(f"  {name:32} {row['reason']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
