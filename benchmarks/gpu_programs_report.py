"""Makes the tables and the plot of the counts of ``benchmarks.gpu_programs``."""

from pathlib import Path
from typing import Any

from benchmarks import gpu_report, internals

KERNEL_COLUMNS = (
    *("dtype", "H", "direction", "flags", "registers"),
    *("spilled", "instructions", "products", "special", "cycles"),
)
"""Columns of the table of kernels."""
KERNEL_SECTION = """
## The kernels of `mosaic_gpu`, for 16 sequences

`instructions` are those that one warp runs per time step; among them `products` are matrix instructions, and `special`
are instructions of the special function unit. `cycles` is the least number of cycles per time step in which the
instructions of all warps can be started. `spilled` is in bytes. `flags` tells whether there are lengths, a mask or
resets.
"""


def format_report(results: dict[str, Any], explanation: str, plot_name: str) -> str:
    """Formats the tables in Markdown.

    Args:
        results: the content of a file of results of ``gpu_programs``.
        explanation: the first paragraph.
        plot_name: the file name of the plot.

    Returns:
        The text of the report.
    """
    date, version = results["environment"]["date"], results["environment"]["versions"]["jax"]
    lines = [
        f"# Compiled for an H100\n\n{explanation}\n",
        f"{date}, jax {version}, T = {results['T']}; nothing was run.",
        f"On a GPU `lstm` takes {internals.default_unroll('gpu')} steps in the body of its loop.\n",
        f"![Kernels per time step]({plot_name})\n",
        "## Kernels per time step, starts by the host per time step, temporary memory\n",
        "| B | H | dtype | row | forward | forward + backward |\n" + "| --- " * 6 + "|",
    ]
    for entry in results["programs"]:
        columns = [_format_counts(counts) for counts in entry["modes"].values()]
        if len(set(columns)) == 1:
            columns = [columns[0], ""]
        lines.append(f"| {entry['B']} | {entry['H']} | {entry['dtype']} | {entry['row']} | {' | '.join(columns)} |")
    lines += [KERNEL_SECTION, "| " + " | ".join(KERNEL_COLUMNS) + " |\n" + "| --- " * len(KERNEL_COLUMNS) + "|"]
    for entry in results["kernels"]:
        lines.append("| " + " | ".join(str(entry[column]) for column in KERNEL_COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _format_counts(counts: dict[str, Any]) -> str:
    return counts.get("reason") or "{kernels}, {starts}, {MiB} MiB".format(**counts)


def plot_kernels(results: dict[str, Any], path: Path) -> None:
    """Plots kernels per time step as bars, one panel per mode and one color per size, for the last dtype."""
    from matplotlib.figure import Figure

    dtype = results["programs"][-1]["dtype"]
    entries = [entry for entry in results["programs"] if entry["dtype"] == dtype]
    rows = list(dict.fromkeys(entry["row"] for entry in entries))
    sizes = list(dict.fromkeys((entry["B"], entry["H"]) for entry in entries))
    figure = Figure(figsize=(10, 0.5 + 0.5 * len(rows)), layout="constrained")
    for axes, (mode, title) in zip(figure.subplots(1, 2, sharey=True), gpu_report.MODES.items(), strict=True):
        for color, (batch_size, hidden_size) in enumerate(sizes):
            same_size = [entry for entry in entries if (entry["B"], entry["H"]) == (batch_size, hidden_size)]
            counted = [entry for entry in same_size if "MiB" in entry["modes"][mode]]
            positions = [rows.index(entry["row"]) + (color + 0.5) * 0.8 / len(sizes) - 0.4 for entry in counted]
            kernels = [entry["modes"][mode]["kernels"] for entry in counted]
            bars = axes.barh(positions, kernels, 0.75 / len(sizes), label=f"B={batch_size} H={hidden_size}")
            axes.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=7)
        axes.set(title=f"{title}, {dtype}", xlabel="kernels per time step")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=110)
