"""Pictures of sweeps: speed against H and B, time a step and memory against T."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.workloads import SWEEPS

Cell = dict[str, Any]
MODES = {"forward": "forward", "value_and_grad": "value and gradient"}
BASELINE = "flax linen OptimizedLSTMCell"
TITLES = {
    "H": ("Speed against hidden size (T=64, B=32, D=H)", "times linen's speed"),
    "B": ("Speed against batch (T=64, D=H=128)", "times linen's speed"),
    "T": ("Time a step against length (B=8, D=32, H=64)", "microseconds a step"),
    "memory": ("Gradient of the final state with respect to parameters (B=8, D=32, H=64)", "temporary MB"),
}
"""Sweep to the title of its picture and of the vertical axis."""
STYLES: dict[str, dict[str, Any]] = {
    "lstm_jax": {"color": "tab:blue", "linewidth": 2.4},
    "lstm_jax gates": {"color": "tab:blue", "linewidth": 2.4},
    "lstm_jax states": {"color": "tab:cyan", "linewidth": 2.4},
    "lstm_jax sqrt(T)": {"color": "navy", "linewidth": 2.4},
    BASELINE: {"color": "tab:orange"},
    "torch": {"color": "tab:red"},
}


def seconds(cell: Cell, row: str) -> np.ndarray | None:
    """Seconds a call of a row, round by round; None if it did not run."""
    values = cell["rows"].get(row, {}).get("seconds")
    return np.array(values) if values else None


def series(cells: list[Cell], sweep: str, mode: str, row: str) -> dict[int, tuple[np.ndarray, int | None]]:
    """Size to (seconds, temporary bytes) of one row along a sweep."""
    axis = sweep if sweep in "HBT" else "T"
    found = {}
    for cell in cells:
        times = seconds(cell, row)
        if cell["workload"] in SWEEPS[sweep] and cell["mode"] == mode and times is not None:
            found[cell[axis]] = (times, cell["rows"][row]["temporary_bytes"])
    return dict(sorted(found.items()))


def pictures(cells: list[Cell], folder: Path, name: str) -> list[Path]:
    """One picture for each sweep that was measured, one panel a mode."""
    made = []
    for sweep, (title, axis_label) in TITLES.items():
        modes = [mode for mode in MODES if any(c["workload"] in SWEEPS[sweep] and c["mode"] == mode for c in cells)]
        if not modes:
            continue
        figure = Figure(figsize=(5.5 * len(modes), 4), layout="constrained")
        panels = figure.subplots(1, len(modes), squeeze=False)[0]
        for panel, mode in zip(panels, modes, strict=True):
            curves = _curves(cells, sweep, mode)
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
        made.append(folder / f"{name}-{sweep}.png")
        figure.savefig(made[-1], dpi=110)
    return made


def _curves(cells: list[Cell], sweep: str, mode: str) -> dict[str, dict[int, float]]:
    """Row to size to what the picture shows, our rows first."""
    rows = {row for cell in cells if cell["workload"] in SWEEPS[sweep] and cell["mode"] == mode for row in cell["rows"]}
    linen = series(cells, sweep, mode, BASELINE)
    curves: dict[str, dict[int, float]] = {}
    for row in sorted(rows, key=lambda row: (not row.startswith("lstm_jax"), row)):
        curve = {}
        for size, (times, memory) in series(cells, sweep, mode, row).items():
            if sweep == "memory" and memory:
                curve[size] = memory / 1e6
            elif sweep == "T":
                curve[size] = float(np.median(times)) / size * 1e6
            elif sweep in "HB" and size in linen:
                curve[size] = float(np.median(linen[size][0] / times))
        if len(curve) > 1:
            curves[row] = curve
    return curves
