"""Makes the tables and plots of ``benchmarks.gpu``; cases without measurements are marked as not measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Case = dict[str, Any]
"""An entry of ``"cases"`` in a file of results, as ``gpu.measure_case`` returns it."""
MODES = {"forward": "forward", "value_and_grad": "forward + backward"}
"""Mode to its title."""
SCAN_ROW, UNROLLED_ROW = "lstm_jax scan", "lstm_jax scan, unroll {}"
WHOLE_LOOP_ROW = "lstm_jax scan, whole-loop graph"
KERNEL_ROW, CUDNN_ROW = "lstm_jax mosaic_gpu", "lstm_jax cudnn"
LINEN_ROW, RNN_ROW, TORCH_ROW = "flax linen", "jax.experimental.rnn", "torch {dtype}"
"""Names of rows, or prefixes of several names."""
FLOOR_MICROSECONDS = 0.4
"""A lower bound on the time per step of a block of 16 sequences and 128 units in bfloat16. It is the sum of the matrix
products at 85 % of the tensor cores' rate, the element-wise operations of the gates, and one barrier."""
MAX_FLOOR_RATIOS = (3.0, 5.0)
"""The target for the kernel's time in multiples of ``FLOOR_MICROSECONDS``: forward, and with the backward pass."""


class Target(NamedTuple):
    """A target for the speedup of lstm_jax over another library."""

    label: str
    """the library and condition, as the table shows them"""
    row: str
    """prefix of the rows of lstm_jax"""
    other_row: str
    """prefix of the rows of the other library"""
    max_hidden_size: float
    """cases with larger H do not count"""
    min_speedups: tuple[float, float]
    """smallest speedup: forward, and with the backward pass"""


TARGETS = (
    Target("flax linen, by the engine alone", SCAN_ROW, LINEN_ROW, np.inf, (1.5, 2.0)),
    Target("flax linen, H to 128, by the kernel", KERNEL_ROW, LINEN_ROW, 128, (4.0, 4.0)),
    Target("jax.experimental.rnn, H to 128, by the kernel", KERNEL_ROW, RNN_ROW, 128, (1.5, 1.5)),
    Target("torch (cuDNN), H to 128, by the kernel", KERNEL_ROW, TORCH_ROW, 128, (1.0, 1.0)),
)
"""The targets in the order of the table."""


def fastest_seconds(case: Case, prefix: str) -> float | None:
    """Returns the smallest median time of the rows whose names start with ``prefix``, or None if none was measured.

    ``{dtype}`` in the prefix stands for the dtype of the case.
    """
    name_start = prefix.format(dtype=case["dtype"])
    rows = [row for name, row in case["rows"].items() if name.startswith(name_start) and row["seconds"]]
    return min((float(np.median(row["seconds"])) for row in rows), default=None)


def speedups(cases: list[Case], target: Target, mode: str) -> list[float]:
    """Computes the speedup of a target in each case of a mode in which both rows were measured."""
    chosen = [case for case in cases if case["mode"] == mode and case["H"] <= target.max_hidden_size]
    pairs = [(fastest_seconds(case, target.row), fastest_seconds(case, target.other_row)) for case in chosen]
    return [other_seconds / seconds for seconds, other_seconds in pairs if seconds and other_seconds]


def target_table(cases: list[Case]) -> str:
    """Formats the table of targets, with the geometric mean and the worst of the measured values."""
    lines = ["| compared with | mode | wanted | geometric mean | worst | cases |", "| --- " * 6 + "|"]
    for target in TARGETS:
        for (mode, title), min_speedup in zip(MODES.items(), target.min_speedups, strict=True):
            values = speedups(cases, target, mode)
            lines.append(f"| {target.label} | {title} | at least {min_speedup} {_mean_and_worst(values, min)}")
    for (mode, title), max_ratio in zip(MODES.items(), MAX_FLOOR_RATIOS, strict=True):
        small = [c for c in cases if c["mode"] == mode and c["dtype"] == "bfloat16" and c["H"] <= 128 and c["B"] <= 16]
        times = [(case["T"], fastest_seconds(case, KERNEL_ROW)) for case in small]
        values = [seconds / num_steps * 1e6 / FLOOR_MICROSECONDS for num_steps, seconds in times if seconds]
        label = f"the lower bound of {FLOOR_MICROSECONDS} us per step, B to 16, H to 128, bfloat16"
        lines.append(f"| {label} | {title} | at most {max_ratio} times {_mean_and_worst(values, max)}")
    return "\n".join(lines)


def _mean_and_worst(values: list[float], worst: Callable[[list[float]], float]) -> str:
    if not values:
        return "| not measured | not measured | 0 |"
    return f"| {np.exp(np.mean(np.log(values))):.2f} | {worst(values):.2f} | {len(values)} |"


def case_lines(case: Case) -> str:
    """Formats a line of the table for each row of a case: microseconds per step, quartiles, error."""
    case_columns = f"| {case['B']} | {case['H']} | {case['dtype']} | {MODES[case['mode']]} "
    lines = []
    for name, row in case["rows"].items():
        if row["seconds"]:
            low, median, high = np.percentile(row["seconds"], [25, 50, 75]) / case["T"] * 1e6
            lines.append(f"{case_columns}| {name} | {median:.2f} | {low:.2f} to {high:.2f} | {row['error']:.1e} |")
        else:
            lines.append(f"{case_columns}| {name} | - | {row['reason']} | - |")
    return "\n".join(lines)


def plot_time_per_step(cases: list[Case], folder: Path) -> list[Path]:
    """Plots microseconds per step against H, and returns the paths: one file per B, one panel per mode and dtype."""
    from matplotlib.figure import Figure

    paths = []
    for batch_size in sorted({case["B"] for case in cases}):
        figure = Figure(figsize=(9, 7), layout="constrained")
        panels = [(mode, dtype) for dtype in ("float32", "bfloat16") for mode in MODES]
        for axes, (mode, dtype) in zip(figure.subplots(2, 2, sharex=True, squeeze=False).flat, panels, strict=True):
            chosen = [case for case in cases if (case["B"], case["mode"], case["dtype"]) == (batch_size, mode, dtype)]
            _plot_panel(axes, chosen)
            axes.set(title=f"{MODES[mode]}, {dtype}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(f"B = {batch_size}; where a row has several forms, the fastest")
        paths.append(folder / f"gpu-B{batch_size}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def _plot_panel(axes: Any, cases: list[Case]) -> None:
    for marker, prefix in zip("os^vD*", (SCAN_ROW, KERNEL_ROW, CUDNN_ROW, LINEN_ROW, RNN_ROW, TORCH_ROW), strict=True):
        times = [(case["H"], case["T"], fastest_seconds(case, prefix)) for case in cases]
        points = sorted((hidden_size, seconds / steps * 1e6) for hidden_size, steps, seconds in times if seconds)
        axes.plot([x for x, _ in points], [y for _, y in points], f"{marker}-", label=prefix.format(dtype=""))
    scale = {"xscale": "log", "yscale": "log"} if cases else {}
    axes.set(xlabel="H", ylabel="us per step", **scale)
    axes.grid(alpha=0.3, which="both")


def write_report(results: dict[str, Any] | None, folder: Path) -> Path:
    """Writes ``gpu.md`` and its plots into a folder, and returns its path.

    Without results the file says that nothing was measured, and which command measures.
    """
    cases = results["cases"] if results else []
    if results:
        environment = results["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items() if version)
        machine = f"{environment['device']} ({environment['machine']})"
        origin = f"{environment['date']}, {machine}, {versions}; {environment['precision']}."
    else:
        origin = (
            "Not measured: no GPU was at hand. On a machine with one, `python -m benchmarks.gpu` measures everything"
        )
        origin += "\nand names the file of results, from which `--report` makes these tables."
    header = "| B | H | dtype | mode | row | us per step | quartiles | error against float64 |\n" + "| --- " * 8 + "|"
    rows = "\n".join([header, *map(case_lines, cases)]) if cases else "None yet."
    images = "".join(f"![{image.stem}]({image.name})\n\n" for image in plot_time_per_step(cases, folder))
    path = folder / "gpu.md"
    path.write_text(f"# On a GPU\n\n{origin}\n\n{target_table(cases)}\n\n{images}## Every row\n\n{rows}\n")
    return path
