"""Measures all workloads with all libraries, in one process.

    python -m benchmarks.run --quick                  # three workloads, 3 minutes
    python -m benchmarks.run                          # all workloads and sweeps, at most 40 minutes
    python -m benchmarks.run base long --seconds 30   # two workloads, measured for longer

It measures the forward pass, and value and gradient with respect to parameters and inputs, on JAX's default device. A
case is one workload in one mode, and a row is one library's program for it. The results of all rows are compared before
any row is timed. The file of results is rewritten after each case. ``--output FILE`` continues an interrupted run with
its workloads and measuring time. ``python -m benchmarks.report FILE ...`` makes the tables.
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

from benchmarks.measure import MATRIX_PRODUCT, MATRIX_PRODUCT_SIZE, make_rows, measure
from benchmarks.programs import modes, nominal_flops
from benchmarks.workloads import ALL_WORKLOADS, QUICK_WORKLOADS, SWEEPS, WORKLOADS, Workload

MIN_ROUNDS, MAX_ROUNDS = 6, 60
"""The fewest and the most rounds of a case."""
SECONDS_PER_CASE = 15.0
"""The default of ``--seconds``, the measuring time of a case."""
TIME_FORMAT = "%Y%m%dT%H%M%S"
"""The format of the time in the default name of the file of results."""
PACKAGES = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy")
"""Packages whose versions are recorded."""
LOCAL_RESULTS = Path(__file__).parent / "results" / "local"
"""The default folder of results, which git ignores."""


def measure_case(name: str, mode: str, seconds: float) -> dict[str, Any]:
    """Measures one workload in one mode, and returns its entry in the file of results."""
    workload = ALL_WORKLOADS[name]
    rows = make_rows(workload, mode, sweep_only=name not in WORKLOADS)
    times = measure(rows, seconds, MIN_ROUNDS, MAX_ROUNDS)
    return {
        "workload": name,
        "mode": mode,
        **workload._asdict(),
        "flops": nominal_flops(workload, mode),
        "matrix_product": {"seconds": round_seconds(times[MATRIX_PRODUCT]), "flops": 2 * MATRIX_PRODUCT_SIZE**3},
        "rows": {
            row: {
                "seconds": round_seconds(times[row]) if row in times else None,
                "first_seconds": values.first_seconds,
                "temporary_bytes": values.temporary_bytes,
                "reason": values.reason,
            }
            for row, values in rows.items()
        },
    }


def round_seconds(seconds: list[float]) -> list[float]:
    """Rounds times to four significant digits."""
    return [float(f"{value:.4g}") for value in seconds]


def describe_environment() -> dict[str, Any]:
    """Describes the environment of a benchmark: device, machine, versions, precision, date."""
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
        "machine": f"{platform.machine()}, {processor_name()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "precision": f"float32, matrix products {precision or 'at the default'}",
    }


def processor_name() -> str:
    """Returns the name of the processor from /proc/cpuinfo, or from ``platform`` where that does not exist."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def write_atomically(path: Path, results: dict[str, Any]) -> None:
    """Writes results as JSON to a temporary file and renames it, so that the file is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(results, separators=(",", ":")) + "\n")
    temporary.replace(path)


def main() -> None:
    """Runs the command line."""
    options = parse_arguments()
    environment = describe_environment()
    default_name = f"{environment['platform']}-jax{environment['versions']['jax']}-{time.strftime(TIME_FORMAT)}.json"
    path = options.output or LOCAL_RESULTS / default_name
    names = list(options.names or (QUICK_WORKLOADS if options.quick else ()))
    try:
        results = open_results(path, environment, names, options.seconds)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        measure_missing(path, results)
    except KeyboardInterrupt:
        raise SystemExit(f"\nstopped; goes on with: python -m benchmarks.run --output {path}") from None
    print(f"{path}\nTables and plots: python -m benchmarks.report {path}")


def parse_arguments() -> argparse.Namespace:
    """Parses the command line; exits with a message for invalid arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"workloads: {', '.join(WORKLOADS)}; sweeps: {', '.join(SWEEPS)}")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK_WORKLOADS)}")
    parser.add_argument("--seconds", type=float, help=f"measuring time of a case (default: {SECONDS_PER_CASE})")
    parser.add_argument("--output", type=Path, help="file of results; continued if it exists")
    options = parser.parse_args()
    if options.names and options.quick:
        parser.error("--quick: got workloads as well, want one of the two")
    if options.seconds is not None and options.seconds <= 0:
        parser.error(f"--seconds: got {options.seconds}, want more than 0")
    unknown = [name for name in options.names if name not in ALL_WORKLOADS and name not in SWEEPS]
    if unknown:
        parser.error(f"got {unknown}, want workloads of {', '.join(WORKLOADS)} or sweeps of {', '.join(SWEEPS)}")
    return options


def open_results(path: Path, environment: dict[str, Any], names: list[str], seconds: float | None) -> dict[str, Any]:
    """Reads the file of results to continue, or returns empty results if it does not exist.

    Args:
        path: the file of results.
        environment: the current environment, from ``describe_environment``.
        names: workloads and sweeps to measure; empty means those recorded in the file, or all.
        seconds: measuring time of a case; None means that recorded in the file, or ``SECONDS_PER_CASE``.

    Returns:
        The content of the file: ``"environment"``, ``"names"``, ``"seconds"`` and the measured ``"cases"``.

    Raises:
        ValueError: if the file does not hold results, or its environment or workloads differ from the current ones.
    """
    if not path.exists():
        names = names or [*WORKLOADS, *SWEEPS]
        return {"environment": environment, "names": names, "seconds": seconds or SECONDS_PER_CASE, "cases": []}
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        file_environment, cases = results["environment"], results["cases"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--output: got {path}, which holds no results ({error!r}); want another file") from error
    differences = [key for key in environment if key != "date" and file_environment.get(key) != environment[key]]
    differences += sorted({case["workload"] for case in cases if not is_current(case)})
    if differences:
        raise ValueError(f"--output: got {path}, made with another {' and '.join(differences)}; want a new file")
    results["names"] = names or results.get("names") or [*WORKLOADS, *SWEEPS]
    results["seconds"] = seconds or results.get("seconds") or SECONDS_PER_CASE
    return results


def is_current(case: dict[str, Any]) -> bool:
    """Tells whether a case was measured with the current definition of its workload."""
    workload: Workload | None = ALL_WORKLOADS.get(case["workload"])
    return workload is not None and all(case.get(key) == value for key, value in workload._asdict().items())


def measure_missing(path: Path, results: dict[str, Any]) -> None:
    """Measures the cases missing from the results, and writes the file after each."""
    print(f"writing {path}\nEach row: median time, and median ratio to the time of the first row.")
    workload_names = [workload for name in results["names"] for workload in SWEEPS.get(name, [name])]
    done = {(case["workload"], case["mode"]) for case in results["cases"]}
    missing = [
        (name, mode) for name in workload_names for mode in modes(ALL_WORKLOADS[name]) if (name, mode) not in done
    ]
    progress = tqdm(missing, unit="case")
    for name, mode in progress:
        progress.set_postfix_str(f"{name}, {mode}")
        results["cases"].append(measure_case(name, mode, results["seconds"]))
        write_atomically(path, results)
        tqdm.write(summary(results["cases"][-1]))


def summary(case: dict[str, Any]) -> str:
    """Formats a line per row: milliseconds, and the ratio to the time of the first row, which is lstm_jax."""
    first_row_seconds = np.array(next(row["seconds"] for row in case["rows"].values() if row["seconds"]))
    lines = [f"{case['workload']}, {case['mode']}"]
    for name, row in case["rows"].items():
        if row["seconds"]:
            seconds = np.array(row["seconds"])
            lines.append(
                f"  {name:32} {np.median(seconds) * 1e3:10.3f} ms  {np.median(seconds / first_row_seconds):5.2f}"
            )
        else:
            lines.append(f"  {name:32} {row['reason']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
