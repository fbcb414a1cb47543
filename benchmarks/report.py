"""Tables and pictures from files of results.

    python -m benchmarks.report benchmarks/results/*.json

Writes ``report.md`` and one picture a sweep into the folder of the first file, or into ``--output``.

A speed is the other row's time over ours, round by round: its median, and the interval that holds the median with 95 %
certainty, from the order of the ratios. Above 1 we are faster. "best JAX" is
the competitor with the smallest median.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks.plots import BASELINE, MODES, Cell, pictures, seconds, series
from benchmarks.workloads import WORKLOADS


def ours(cell: Cell) -> list[str]:
    """Our rows, but for those run without lengths or resets for comparison."""
    return [name for name in cell["rows"] if name.startswith("lstm_jax") and not name.endswith(", plain")]


def best_jax(cell: Cell) -> str | None:
    """The competitor in JAX with the smallest median."""
    others = [
        name
        for name in cell["rows"]
        if not name.startswith("lstm_jax") and name != "torch" and seconds(cell, name) is not None
    ]
    return min(others, key=lambda name: float(np.median(cell["rows"][name]["seconds"])), default=None)


def speed(cell: Cell, row: str, other: str | None) -> tuple[float, float, float] | None:
    """How many times faster than the other a row is: median, and a 95 % interval of the median."""
    mine, theirs = seconds(cell, row), None if other is None else seconds(cell, other)
    if mine is None or theirs is None:
        return None
    ratios = np.sort(theirs / mine)
    below = int(binom.ppf(0.025, len(ratios), 0.5))
    return (
        float(np.median(ratios)),
        float(ratios[max(below - 1, 0)]),
        float(ratios[min(len(ratios) - below, len(ratios) - 1)]),
    )


def memory_ratio(cell: Cell, row: str, other: str = BASELINE) -> float | None:
    """Peak temporary memory of a row as a part of linen's."""
    mine, theirs = (cell["rows"].get(name, {}).get("temporary_bytes") for name in (row, other))
    return None if not mine or not theirs else mine / theirs


def comparison(cells: list[Cell], mode: str) -> str:
    """One line a workload and row of ours: against the best of JAX, against torch, memory, compile time."""
    lines = [
        "| workload | T, B, D, H | row | ms | best JAX | times its speed | times torch's | share of a large product | "
        "memory of linen's | first result of linen's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        if cell["mode"] != mode or cell["workload"] not in WORKLOADS:
            continue
        best = best_jax(cell)
        for row in ours(cell):
            mine = seconds(cell, row)
            assert mine is not None, f"{row} of {cell['workload']} holds no times"
            share = cell["flops"] / mine / (cell["limit"]["flops"] / np.array(cell["limit"]["seconds"]))
            linen = cell["rows"].get(BASELINE, {}).get("first_seconds")
            first = cell["rows"][row]["first_seconds"]
            lines.append(
                f"| {cell['workload']} | {cell['T']}, {cell['B']}, {cell['D']}, {cell['H']} | {row} "
                f"| {np.median(mine) * 1e3:.3g} | {best or '-'} | {_speed(speed(cell, row, best))} "
                f"| {_speed(speed(cell, row, 'torch'))} | {np.median(share):.2f} "
                f"| {_number(memory_ratio(cell, row))} | {_number(first / linen if linen else None)} |"
            )
    return "\n".join(lines)


def every_row(cells: list[Cell]) -> str:
    """All rows: medians, quartiles, microseconds a step, GFLOP/s, time to the first result, memory; or the reason."""
    lines = [
        "| workload | mode | row | ms | quartiles | us a step | GFLOP/s | first result, s | temporary MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        for row, entry in cell["rows"].items():
            start = f"| {cell['workload']} | {MODES[cell['mode']]} | {row} |"
            times = seconds(cell, row)
            if times is None:
                lines.append(f"{start} {entry['reason']} | | | | | |")
                continue
            low, middle, high = np.percentile(times, [25, 50, 75])
            memory = entry["temporary_bytes"]
            lines.append(
                f"{start} {middle * 1e3:.3g} | {low * 1e3:.3g} to {high * 1e3:.3g} | {middle / cell['T'] * 1e6:.3g} "
                f"| {cell['flops'] / middle / 1e9:.3g} | {entry['first_seconds']:.2f} "
                f"| {'-' if memory is None else f'{memory / 1e6:.1f}'} |"
            )
    return "\n".join(lines)


def summary(cells: list[Cell]) -> str:
    """Geometric means over the named workloads, and what must stay flat."""
    lines = ["| measure | value |", "|---|---|", *_noise(cells)]
    named = [cell for cell in cells if cell["workload"] in WORKLOADS]
    for mode, row in (
        ("forward", "lstm_jax"),
        ("value_and_grad", "lstm_jax gates"),
        ("value_and_grad", "lstm_jax states"),
    ):
        those = [cell for cell in named if cell["mode"] == mode and row in cell["rows"]]
        for name, other in (("best JAX", None), ("torch", "torch")):
            groups = {"": those}
            if mode == "value_and_grad" and other is None:
                groups = {", B > 1": [c for c in those if c["B"] > 1], ", B = 1": [c for c in those if c["B"] == 1]}
            for label, group in groups.items():
                found = {c["workload"]: speed(c, row, other or best_jax(c)) for c in group}
                medians = {workload: value[0] for workload, value in found.items() if value}
                if medians:
                    least = min(medians, key=lambda workload: medians[workload])
                    mean = float(np.exp(np.mean(np.log(list(medians.values())))))
                    lines.append(
                        f"| {MODES[mode]}, {row}, speed against {name}{label} | geometric mean {mean:.2f}, "
                        f"least {medians[least]:.2f} ({least}) |"
                    )
        if mode == "value_and_grad":
            ratios = {c["workload"]: memory_ratio(c, row) for c in those if c["B"] > 1}
            present = {workload: ratio for workload, ratio in ratios.items() if ratio}
            if present:
                most = max(present, key=lambda workload: present[workload])
                lines.append(f"| {row}, memory of linen's, B > 1 | at most {present[most]:.2f} ({most}) |")
    lines += _flatness(cells) + _overheads(named)
    return "\n".join(lines)


def _noise(cells: list[Cell]) -> list[str]:
    """How much the machine's speed moved, by the same product in every round."""
    speeds = [cell["limit"]["flops"] / value / 1e9 for cell in cells for value in cell["limit"]["seconds"]]
    if not speeds:
        return []
    low, middle, high = np.percentile(speeds, [5, 50, 95])
    return [f"| a large product, GFLOP/s: median, 5 and 95 of 100 rounds | {middle:.0f}, {low:.0f} to {high:.0f} |"]


def _flatness(cells: list[Cell]) -> list[str]:
    """Time a step from the shortest to the longest T, and memory with integer remat, of our rows."""
    lines = []
    for mode, row in (
        ("forward", "lstm_jax"),
        ("value_and_grad", "lstm_jax gates"),
        ("value_and_grad", "lstm_jax states"),
    ):
        found = series(cells, "T", mode, row)
        if len(found) > 1:
            steps = {size: float(np.median(times)) / size for size, (times, _) in found.items()}
            first, change = min(steps), max(steps.values()) / min(steps.values()) - 1
            lines.append(
                f"| {MODES[mode]}, {row}, time a step, T = {first} to {max(steps)} "
                f"| {min(steps.values()) * 1e6:.2f} to {max(steps.values()) * 1e6:.2f} us, {change:.0%} apart |"
            )
    found = series(cells, "memory", "value_and_grad", "lstm_jax sqrt(T)")
    if len(found) > 1:
        small, large = min(found), max(found)
        less, more = found[small][1], found[large][1]
        if less and more:
            power = np.log(more / less) / np.log(large / small)
            lines.append(
                f"| final state, remat = sqrt(T), T = {small} to {large}: temporary memory "
                f"| {less / 1e6:.2f} to {more / 1e6:.2f} MB, grows like T^{power:.2f} |"
            )
    return lines


def _overheads(cells: list[Cell]) -> list[str]:
    """Compile time against linen, and what lengths and resets cost."""
    ratios = []
    lines = []
    for cell in cells:
        linen = cell["rows"].get(BASELINE, {}).get("first_seconds")
        ratios += [cell["rows"][row]["first_seconds"] / linen for row in ours(cell) if linen]
        for row in ours(cell):
            cost = speed(cell, f"{row}, plain", row)
            if cost:
                lines.append(
                    f"| {cell['workload']}, {MODES[cell['mode']]}, {row}: time against the same without "
                    f"| {cost[0]:.2f} |"
                )
    if ratios:
        lines.append(
            f"| time to the first result against linen's | median {np.median(ratios):.2f}, at most {max(ratios):.2f} |"
        )
    return lines


def _speed(value: tuple[float, float, float] | None) -> str:
    return "-" if value is None else f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def section(results: dict[str, Any], folder: Path, name: str) -> str:
    """The part of the report about one file of results."""
    here, cells = results["environment"], results["cells"]
    versions = ", ".join(f"{package} {version}" for package, version in here["versions"].items() if version)
    images = "\n\n".join(f"![{path.stem}]({path.name})" for path in pictures(cells, folder, name))
    return f"""## {name}

{here["date"]}, {here["device"]} ({here["machine"]}, {here["cores"]} cores), Python {here["python"]}, {versions}.
{here["precision"]}. A large product in the same run: {_limit(cells):.0f} GFLOP/s (median).

{summary(cells)}

### Forward

{comparison(cells, "forward")}

### Value and gradient with respect to parameters and inputs

{comparison(cells, "value_and_grad")}

{images}

<details><summary>Every row</summary>

{every_row(cells)}

</details>
"""


def _limit(cells: list[Cell]) -> float:
    return float(np.median([cell["limit"]["flops"] / np.median(cell["limit"]["seconds"]) for cell in cells]) / 1e9)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="files of results")
    parser.add_argument("--output", type=Path, help="folder of the report (that of the first file)")
    options = parser.parse_args()
    folder = options.output or options.files[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    sections = [section(json.loads(path.read_text()), folder, path.stem) for path in options.files]
    how = __doc__.split("\n\n")[-1].strip()
    report = folder / "report.md"
    report.write_text(f"# Benchmarks\n\n{how}\n\n" + "\n".join(sections))
    print(report)


if __name__ == "__main__":
    main()
