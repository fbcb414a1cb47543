"""Plots the sweeps: speed against H and B, time per step and memory against T."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.workloads import SWEEPS

Case = dict[str, Any]
"""An entry of ``"cases"`` in a file of results, as ``run.measure_case`` returns it."""
MODES = {"forward": "forward", "value_and_grad": "value and gradient"}
"""Mode to its title."""
BASELINE = "flax linen OptimizedLSTMCell"
"""The row whose speed is 1 in the plots of speed."""
TITLES = {
    "H": ("Speed against hidden size (T=64, B=32, D=H)", "times linen's speed"),
    "B": ("Speed against batch (T=64, D=H=128)", "times linen's speed"),
    "T": ("Time per step against length (B=8, D=32, H=64)", "microseconds per step"),
    "memory": ("Gradient of the final state with respect to parameters (B=8, D=32, H=64)", "temporary MB"),
}
"""Sweep to the title of its plot and the label of its y axis."""
STYLES: dict[str, dict[str, Any]] = {
    "lstm_jax": {"color": "tab:blue", "linewidth": 2.4},
    "lstm_jax gates": {"color": "tab:blue", "linewidth": 2.4},
    "lstm_jax states": {"color": "tab:cyan", "linewidth": 2.4},
    "lstm_jax sqrt(T)": {"color": "navy", "linewidth": 2.4},
    BASELINE: {"color": "tab:orange"},
    "torch": {"color": "tab:red"},
}
"""Row to the style of its line."""


def row_seconds(case: Case, row: str) -> np.ndarray | None:
    """Returns the seconds per call of a row, one entry per round, or None if it was not measured."""
    values = case["rows"].get(row, {}).get("seconds")
    return np.array(values) if values else None


def sweep_series(cases: list[Case], sweep: str, mode: str, row: str) -> dict[int, tuple[np.ndarray, int | None]]:
    """Collects the results of one row along a sweep, size to (seconds per call, temporary bytes)."""
    axis = sweep if sweep in "HBT" else "T"
    series = {}
    for case in cases:
        seconds = row_seconds(case, row)
        if case["workload"] in SWEEPS[sweep] and case["mode"] == mode and seconds is not None:
            series[case[axis]] = (seconds, case["rows"][row]["temporary_bytes"])
    return dict(sorted(series.items()))


def plot_sweeps(cases: list[Case], folder: Path, name: str) -> list[Path]:
    """Plots each measured sweep into ``folder/name-SWEEP.png``, one panel per mode, and returns the paths."""
    paths = []
    for sweep, (title, axis_label) in TITLES.items():
        modes = [mode for mode in MODES if any(c["workload"] in SWEEPS[sweep] and c["mode"] == mode for c in cases)]
        if not modes:
            continue
        figure = Figure(figsize=(5.5 * len(modes), 4), layout="constrained")
        panels = figure.subplots(1, len(modes), squeeze=False)[0]
        for panel, mode in zip(panels, modes, strict=True):
            curves = _curves(cases, sweep, mode)
            for row, values in curves.items():
                panel.plot(list(values), list(values.values()), marker="o", label=row, **STYLES.get(row, {}))
            sizes = sorted({size for values in curves.values() for size in values})
            panel.set(title=MODES[mode], xlabel="T" if sweep == "memory" else sweep, ylabel=axis_label, xscale="log")
            panel.set(yscale="log" if sweep == "memory" else "linear")
            panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            panel.set_ylim(bottom=None if sweep == "memory" else 0)
            panel.legend(fontsize=8)
        figure.suptitle(title)
        paths.append(folder / f"{name}-{sweep}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def _curves(cases: list[Case], sweep: str, mode: str) -> dict[str, dict[int, float]]:
    """Computes the plotted values, row to size to value, with the rows of lstm_jax first."""
    rows = {row for case in cases if case["workload"] in SWEEPS[sweep] and case["mode"] == mode for row in case["rows"]}
    baseline = sweep_series(cases, sweep, mode, BASELINE)
    curves: dict[str, dict[int, float]] = {}
    for row in sorted(rows, key=lambda row: (not row.startswith("lstm_jax"), row)):
        curve = {}
        for size, (seconds, temporary_bytes) in sweep_series(cases, sweep, mode, row).items():
            if sweep == "memory" and temporary_bytes:
                curve[size] = temporary_bytes / 1e6
            elif sweep == "T":
                curve[size] = float(np.median(seconds)) / size * 1e6
            elif sweep in "HB" and size in baseline:
                curve[size] = float(np.median(baseline[size][0] / seconds))
        if len(curve) > 1:
            curves[row] = curve
    return curves
