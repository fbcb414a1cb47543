"""Every workload, every library, one process, one run.

    python -m benchmarks.run --quick                  # three workloads, 3 minutes
    python -m benchmarks.run                          # all workloads and sweeps, at most 40 minutes
    python -m benchmarks.run base long --seconds 30   # some, measured for longer

Measures the forward pass, and value and gradient with respect to parameters and inputs, on whatever device jax finds.
Results of all rows are compared before any is timed. The file of results is written anew after each cell, whole or
not at all; a run that was interrupted goes on with ``--output`` and its file, and remembers what it was asked for.
``python -m benchmarks.report FILE ...`` makes the tables.
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
from benchmarks.workloads import ALL, QUICK, SWEEPS, WORKLOADS, Workload

LEAST, MOST = 6, 60
"""Rounds of a cell."""
SECONDS = 15.0
"""Measuring time of a cell, unless asked."""
STAMP = "%Y%m%dT%H%M%S"
PACKAGES = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy")
RESULTS = Path(__file__).parent / "results" / "local"
"""Where results go that nobody has decided to publish."""


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
    parser.add_argument("--seconds", type=float, help=f"measuring time of a cell ({SECONDS})")
    parser.add_argument("--output", type=Path, help="the file of results; continued if it exists")
    options = parser.parse_args()
    if options.names and options.quick:
        parser.error("--quick: got workloads as well, want one of the two")
    if options.seconds is not None and options.seconds <= 0:
        parser.error(f"--seconds: got {options.seconds}, want more than 0")
    unknown = [name for name in options.names if name not in ALL and name not in SWEEPS]
    if unknown:
        parser.error(f"got {unknown}, want workloads of {', '.join(WORKLOADS)} or sweeps of {', '.join(SWEEPS)}")
    here = environment()
    path = options.output or RESULTS / f"{here['platform']}-jax{here['versions']['jax']}-{time.strftime(STAMP)}.json"
    asked = list(options.names or (QUICK if options.quick else ()))
    try:
        results = open_results(path, here, asked, options.seconds)
    except ValueError as error:
        parser.error(str(error))
    try:
        measure_all(path, results)
    except KeyboardInterrupt:
        raise SystemExit(f"\nstopped; goes on with: python -m benchmarks.run --output {path}") from None
    print(f"{path}\nTables and pictures: python -m benchmarks.report {path}")


def open_results(path: Path, here: dict[str, Any], asked: list[str], seconds: float | None) -> dict[str, Any]:
    """The results in a file, or new ones: environment, what was asked, the cells so far.

    Raises:
        ValueError: if the file is not one of results, or another environment or other workloads made it.
    """
    if not path.exists():
        names = asked or [*WORKLOADS, *SWEEPS]
        return {"environment": here, "names": names, "seconds": seconds or SECONDS, "cells": []}
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        made, cells = results["environment"], results["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--output: got {path}, which holds no results ({error!r}); want another file") from error
    other = [key for key in here if key != "date" and made[key] != here[key]]
    other += sorted({cell["workload"] for cell in cells if not same(ALL.get(cell["workload"]), cell)})
    if other:
        raise ValueError(f"--output: got {path}, made with another {' and '.join(other)}; want a new file")
    results["names"] = asked or results.get("names") or [*WORKLOADS, *SWEEPS]
    results["seconds"] = seconds or results.get("seconds") or SECONDS
    return results


def same(workload: Workload | None, cell: dict[str, Any]) -> bool:
    """Whether a cell measured this workload, as it is defined today."""
    return workload is not None and all(cell[key] == value for key, value in workload._asdict().items())


def measure_all(path: Path, results: dict[str, Any]) -> None:
    """Measures the cells that are missing, and writes the file after each."""
    print(f"writing {path}\nEach row: median time, and how many times our first row's time that is.")
    names = [inner for name in results["names"] for inner in SWEEPS.get(name, [name])]
    done = {(cell["workload"], cell["mode"]) for cell in results["cells"]}
    bar = tqdm([(name, mode) for name in names for mode in modes(ALL[name]) if (name, mode) not in done], unit="cell")
    for name, mode in bar:
        bar.set_postfix_str(f"{name}, {mode}")
        results["cells"].append(cell_result(name, mode, results["seconds"]))
        write_whole(path, results)
        tqdm.write(summary(results["cells"][-1]))


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
