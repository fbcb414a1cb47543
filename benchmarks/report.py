"""Makes the report of the benchmarks, tables and plots, from files of results.

    python -m benchmarks.report benchmarks/results/*.json

It writes ``report.md`` and one plot per sweep into the folder of the first file, or into ``--output``.

The speedup over another row is that row's time divided by ours, taken in each round: its median, and in parentheses a
95 % confidence interval of the median, from order statistics. Above 1 we are faster. The "fastest JAX library" of a
workload is the one with the smallest median time, ours left out. The speed of a large matrix product is measured in the
same rounds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks.plots import BASELINE, MODES, Case, plot_sweeps, row_seconds, sweep_series
from benchmarks.workloads import WORKLOADS

MAIN_ROWS = (
    ("forward", "lstm_jax"),
    ("value_and_grad", "lstm_jax gates"),
    ("value_and_grad", "lstm_jax states"),
)
"""Mode and name of the rows in the summary."""


def our_rows(case: Case) -> list[str]:
    """Lists the rows of lstm_jax in a case, except those named "plain", which run without lengths or resets."""
    return [name for name in case["rows"] if name.startswith("lstm_jax") and not name.endswith(", plain")]


def fastest_jax_row(case: Case) -> str | None:
    """Returns the row with the smallest median time among the other JAX libraries, or None if there is none."""
    names = [
        name
        for name in case["rows"]
        if not name.startswith("lstm_jax") and name != "torch" and row_seconds(case, name) is not None
    ]
    return min(names, key=lambda name: float(np.median(case["rows"][name]["seconds"])), default=None)


def speedup(case: Case, row: str, other: str | None) -> tuple[float, float, float] | None:
    """Computes the speedup of ``row`` over ``other``.

    Args:
        case: the case that holds both rows.
        row: name of the row.
        other: name of the row to compare with, or None.

    Returns:
        (median, low, high) of the ratio of times over rounds, where low and high bound a 95 % confidence interval of
        the median; None if either row was not measured.
    """
    seconds, other_seconds = row_seconds(case, row), None if other is None else row_seconds(case, other)
    if seconds is None or other_seconds is None:
        return None
    ratios = np.sort(other_seconds / seconds)
    num_below = int(binom.ppf(0.025, len(ratios), 0.5))
    return (
        float(np.median(ratios)),
        float(ratios[max(num_below - 1, 0)]),
        float(ratios[min(len(ratios) - num_below, len(ratios) - 1)]),
    )


def memory_ratio(case: Case, row: str) -> float | None:
    """Returns the peak temporary memory of a row divided by that of flax linen, or None if either is unknown."""
    row_bytes, linen_bytes = (case["rows"].get(name, {}).get("temporary_bytes") for name in (row, BASELINE))
    return None if not row_bytes or not linen_bytes else row_bytes / linen_bytes


def comparison_table(cases: list[Case], mode: str) -> str:
    """Formats a table that compares each row of lstm_jax with other libraries: speed, memory, compilation time."""
    lines = [
        "| workload | T, B, D, H | row | ms | fastest JAX library | speedup over it | speedup over torch | "
        "speed / large product's | memory / linen's | first result / linen's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        if case["mode"] != mode or case["workload"] not in WORKLOADS:
            continue
        fastest = fastest_jax_row(case)
        for row in our_rows(case):
            seconds = row_seconds(case, row)
            assert seconds is not None, f"{row} of {case['workload']} holds no times"
            product = case["matrix_product"]
            product_share = case["flops"] / seconds / (product["flops"] / np.array(product["seconds"]))
            linen_first = case["rows"].get(BASELINE, {}).get("first_seconds")
            first_ratio = case["rows"][row]["first_seconds"] / linen_first if linen_first else None
            lines.append(
                f"| {case['workload']} | {case['T']}, {case['B']}, {case['D']}, {case['H']} | {row} "
                f"| {np.median(seconds) * 1e3:.3g} | {fastest or '-'} | {_format_speedup(speedup(case, row, fastest))} "
                f"| {_format_speedup(speedup(case, row, 'torch'))} | {np.median(product_share):.2f} "
                f"| {_format_ratio(memory_ratio(case, row))} | {_format_ratio(first_ratio)} |"
            )
    return "\n".join(lines)


def full_table(cases: list[Case]) -> str:
    """Formats a table of all rows: times, FLOP rate and memory, or the reason why a row cannot run."""
    lines = [
        "| workload | mode | row | ms | quartiles | us per step | GFLOP/s | first result, s | temporary MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        for row, entry in case["rows"].items():
            case_columns = f"| {case['workload']} | {MODES[case['mode']]} | {row} |"
            seconds = row_seconds(case, row)
            if seconds is None:
                lines.append(f"{case_columns} {entry['reason']} | | | | | |")
                continue
            low, median, high = np.percentile(seconds, [25, 50, 75])
            memory = entry["temporary_bytes"]
            lines.append(
                f"{case_columns} {median * 1e3:.3g} | {low * 1e3:.3g} to {high * 1e3:.3g} "
                f"| {median / case['T'] * 1e6:.3g} | {case['flops'] / median / 1e9:.3g} | {entry['first_seconds']:.2f} "
                f"| {'-' if memory is None else f'{memory / 1e6:.1f}'} |"
            )
    return "\n".join(lines)


def summary_table(cases: list[Case]) -> str:
    """Formats the summary: mean speedups, growth with T, costs of options, compilation time."""
    lines = ["| measure | value |", "|---|---|", *_format_product_speed(cases)]
    named = [case for case in cases if case["workload"] in WORKLOADS]
    for mode, row in MAIN_ROWS:
        with_row = [case for case in named if case["mode"] == mode and row in case["rows"]]
        groups = {"": with_row}
        if mode == "value_and_grad":
            groups = {", B > 1": [c for c in with_row if c["B"] > 1], ", B = 1": [c for c in with_row if c["B"] == 1]}
        label = f"{MODES[mode]}, {row}, speedup over"
        for condition, group in groups.items():
            speedups = {case["workload"]: speedup(case, row, fastest_jax_row(case)) for case in group}
            lines += _format_mean_speedup(f"{label} the fastest JAX library{condition}", speedups)
        lines += _format_mean_speedup(
            f"{label} torch", {case["workload"]: speedup(case, row, "torch") for case in with_row}
        )
        if mode == "value_and_grad":
            lines += _format_max_memory_ratio(with_row, row)
    lines += _format_time_per_step(cases) + _format_memory_growth(cases)
    lines += _format_option_costs(named) + _format_compile_times(named)
    return "\n".join(lines)


def _format_mean_speedup(label: str, speedups: dict[str, tuple[float, float, float] | None]) -> list[str]:
    """Formats the geometric mean and the smallest of speedups by workload."""
    medians = {workload: value[0] for workload, value in speedups.items() if value}
    if not medians:
        return []
    slowest = min(medians, key=lambda workload: medians[workload])
    mean = float(np.exp(np.mean(np.log(list(medians.values())))))
    return [f"| {label} | geometric mean {mean:.2f}, smallest {medians[slowest]:.2f} ({slowest}) |"]


def _format_max_memory_ratio(cases: list[Case], row: str) -> list[str]:
    """Formats the largest ratio of a row's temporary memory to linen's over workloads with B > 1."""
    ratios = {case["workload"]: memory_ratio(case, row) for case in cases if case["B"] > 1}
    known_ratios = {workload: ratio for workload, ratio in ratios.items() if ratio}
    if not known_ratios:
        return []
    largest = max(known_ratios, key=lambda workload: known_ratios[workload])
    return [f"| {row}, memory / linen's, B > 1 | at most {known_ratios[largest]:.2f} ({largest}) |"]


def _format_product_speed(cases: list[Case]) -> list[str]:
    """Formats the variation of the machine's speed, measured by the matrix product in each round."""
    products = [case["matrix_product"] for case in cases]
    speeds = [product["flops"] / seconds / 1e9 for product in products for seconds in product["seconds"]]
    if not speeds:
        return []
    low, median, high = np.percentile(speeds, [5, 50, 95])
    return [
        f"| a large matrix product, GFLOP/s: median, 5th and 95th percentile | {median:.0f}, {low:.0f}, {high:.0f} |"
    ]


def _format_time_per_step(cases: list[Case]) -> list[str]:
    """Formats the variation of lstm_jax's time per step along the sweep over T."""
    lines = []
    for mode, row in MAIN_ROWS:
        series = sweep_series(cases, "T", mode, row)
        if len(series) > 1:
            step_seconds = {size: float(np.median(seconds)) / size for size, (seconds, _) in series.items()}
            fastest, slowest = min(step_seconds.values()), max(step_seconds.values())
            lines.append(
                f"| {MODES[mode]}, {row}, time per step, T = {min(step_seconds)} to {max(step_seconds)} "
                f"| {fastest * 1e6:.2f} to {slowest * 1e6:.2f} us, {slowest / fastest - 1:.0%} apart |"
            )
    return lines


def _format_memory_growth(cases: list[Case]) -> list[str]:
    """Formats the growth of temporary memory with T for ``remat`` = sqrt(T)."""
    series = sweep_series(cases, "memory", "value_and_grad", "lstm_jax sqrt(T)")
    memory = {size: temporary_bytes for size, (_, temporary_bytes) in series.items() if temporary_bytes}
    if len(memory) < 2:
        return []
    shortest, longest = min(memory), max(memory)
    exponent = np.log(memory[longest] / memory[shortest]) / np.log(longest / shortest)
    return [
        f"| final state, remat = sqrt(T), T = {shortest} to {longest}: temporary memory "
        f"| {memory[shortest] / 1e6:.2f} to {memory[longest] / 1e6:.2f} MB, grows like T^{exponent:.2f} |"
    ]


def _format_option_costs(cases: list[Case]) -> list[str]:
    """Formats the cost of lengths and resets: time with the option divided by time without."""
    option_of_kind = {"ragged": "lengths", "resets": "resets"}
    lines = []
    for case in cases:
        for row in our_rows(case):
            cost = speedup(case, f"{row}, plain", row)
            if cost:
                label = f"| {case['workload']}, {MODES[case['mode']]}, {row}"
                lines.append(f"{label}: time / time without {option_of_kind[case['kind']]} | {cost[0]:.2f} |")
    return lines


def _format_compile_times(cases: list[Case]) -> list[str]:
    """Formats the ratio of lstm_jax's time to the first result, mostly compilation, to linen's."""
    ratios = []
    for case in cases:
        linen_first = case["rows"].get(BASELINE, {}).get("first_seconds")
        ratios += [case["rows"][row]["first_seconds"] / linen_first for row in our_rows(case) if linen_first]
    if not ratios:
        return []
    return [f"| time to the first result / linen's | median {np.median(ratios):.2f}, at most {max(ratios):.2f} |"]


def _format_speedup(value: tuple[float, float, float] | None) -> str:
    return "-" if value is None else f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def _format_ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def section(results: dict[str, Any], folder: Path, name: str) -> str:
    """Writes the plots of one file of results, and returns its section of the report."""
    environment, cases = results["environment"], results["cases"]
    versions = ", ".join(f"{package} {version}" for package, version in environment["versions"].items() if version)
    machine = f"{environment['device']} ({environment['machine']}, {environment['cores']} cores)"
    images = "\n\n".join(f"![{path.stem}]({path.name})" for path in plot_sweeps(cases, folder, name))
    return f"""## {name}

{environment["date"]}, {machine}, Python {environment["python"]}, {versions}.
{environment["precision"]}. A large matrix product in the same run: {_median_product_speed(cases):.0f} GFLOP/s (median).

{summary_table(cases)}

### Forward

{comparison_table(cases, "forward")}

### Value and gradient with respect to parameters and inputs

{comparison_table(cases, "value_and_grad")}

{images}

<details><summary>Every row</summary>

{full_table(cases)}

</details>
"""


def _median_product_speed(cases: list[Case]) -> float:
    """Returns the median speed of the matrix product in GFLOP/s."""
    products = [case["matrix_product"] for case in cases]
    return float(np.median([product["flops"] / np.median(product["seconds"]) for product in products]) / 1e9)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="files of results")
    parser.add_argument("--output", type=Path, help="folder of the report (default: the folder of the first file)")
    options = parser.parse_args()
    folder = options.output or options.files[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    sections = [section(json.loads(path.read_text()), folder, path.stem) for path in options.files]
    explanation = (__doc__ or "").split("\n\n")[-1].strip()
    report = folder / "report.md"
    report.write_text(f"# Benchmarks\n\n{explanation}\n\n" + "\n".join(sections))
    print(report)


if __name__ == "__main__":
    main()
