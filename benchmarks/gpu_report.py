"""Tables of what ``benchmarks.gpu`` measured, and of what it has not."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MODES = {"forward": "forward", "value_and_grad": "forward + backward"}
ENGINE, KERNEL, LINEN, RNN, TORCH = (
    "lstm_jax scan",
    "lstm_jax mosaic_gpu",
    "flax linen",
    "jax.experimental.rnn",
    "torch {dtype}",
)
FLOOR = 0.4
"""Microseconds a step that a block of 16 sequences and 128 units in bfloat16 needs at least, by arithmetic: the
products at 85 % of the tensor cores' rate, the gates' maths and one barrier, none overlapping."""


class Target(NamedTuple):
    """What a row of ours is to be, against another's."""

    against: str
    mine: str
    other: str
    most_units: float
    least: tuple[float, float]
    """times as fast, forward and with the backward pass"""


TARGETS = (
    Target("flax linen, by the engine alone", ENGINE, LINEN, np.inf, (1.5, 2.0)),
    Target("flax linen, H to 128, by the kernel", KERNEL, LINEN, 128, (4.0, 4.0)),
    Target("jax.experimental.rnn, H to 128, by the kernel", KERNEL, RNN, 128, (1.5, 1.5)),
    Target("torch (cuDNN), H to 128, by the kernel", KERNEL, TORCH, 128, (1.0, 1.0)),
)
SLOWER = (3.0, 5.0)
"""How many times the floor the kernel may take."""


def fastest(cell: dict[str, Any], start: str) -> tuple[str, float] | None:
    """The row that begins so, with the cell's dtype where it says, that has the smallest median, and its seconds."""
    rows, start = cell["rows"].items(), start.format(dtype=cell["dtype"])
    found = {name: float(np.median(row["seconds"])) for name, row in rows if name.startswith(start) and row["seconds"]}
    return min(found.items(), key=lambda item: item[1]) if found else None


def ratios(cells: list[dict[str, Any]], target: Target, mode: str) -> list[float]:
    """How many times faster, in each cell that has both."""
    those = [cell for cell in cells if cell["mode"] == mode and cell["H"] <= target.most_units]
    pairs = [(fastest(cell, target.mine), fastest(cell, target.other)) for cell in those]
    return [theirs[1] / own[1] for own, theirs in pairs if own and theirs]


def targets(cells: list[dict[str, Any]]) -> str:
    """A line for each: what was wanted, and the geometric mean and the worst of what was found."""
    lines = ["| against | mode | wanted | geometric mean | worst | cells |", "| --- " * 6 + "|"]
    for target in TARGETS:
        for (mode, label), least in zip(MODES.items(), target.least, strict=True):
            found = ratios(cells, target, mode)
            lines.append(f"| {target.against} | {label} | at least {least} {_mean_and(min, found)} | {len(found)} |")
    for (mode, label), most in zip(MODES.items(), SLOWER, strict=True):
        small = [c for c in cells if c["mode"] == mode and c["dtype"] == "bfloat16" and c["H"] <= 128 and c["B"] <= 16]
        found = [one[1] / c["T"] * 1e6 / FLOOR for c in small if (one := fastest(c, KERNEL))]
        name = f"the floor of {FLOOR} us a step, B to 16, H to 128, bfloat16"
        lines.append(f"| {name} | {label} | at most {most} times {_mean_and(max, found)} | {len(found)} |")
    return "\n".join(lines)


def _mean_and(worst: Any, found: list[float]) -> str:
    if not found:
        return "| not measured | not measured"
    return f"| {np.exp(np.mean(np.log(found))):.2f} | {worst(found):.2f}"


def cell_lines(cell: dict[str, Any]) -> str:
    """Every row of a cell: microseconds a step, quartiles, error."""
    start = f"| {cell['B']} | {cell['H']} | {cell['dtype']} | {MODES[cell['mode']]} "
    lines = []
    for name, row in cell["rows"].items():
        if row["seconds"]:
            low, middle, high = np.percentile(row["seconds"], [25, 50, 75]) / cell["T"] * 1e6
            lines.append(f"{start}| {name} | {middle:.2f} | {low:.2f} to {high:.2f} | {row['error']:.1e} |")
        else:
            lines.append(f"{start}| {name} | - | {row['reason']} | - |")
    return "\n".join(lines)


def draw(cells: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Microseconds a step against H, a picture for each batch, a panel for each mode and dtype."""
    from matplotlib.figure import Figure

    paths, marks = [], [mark + "-" for mark in "os^vD*"]
    for rows in sorted({cell["B"] for cell in cells}):
        figure = Figure(figsize=(9, 7), layout="constrained")
        panels = [(mode, dtype) for dtype in ("float32", "bfloat16") for mode in MODES]
        for axes, (mode, dtype) in zip(figure.subplots(2, 2, sharex=True, squeeze=False).flat, panels, strict=True):
            those = [one for one in cells if (one["B"], one["mode"], one["dtype"]) == (rows, mode, dtype)]
            for place, start in enumerate((ENGINE, KERNEL, "lstm_jax cudnn", LINEN, RNN, TORCH)):
                found = sorted((one["H"], row[1] / one["T"] * 1e6) for one in those if (row := fastest(one, start)))
                steps = [one[0] for one in found], [one[1] for one in found]
                axes.plot(*steps, marks[place], label=start.format(dtype=""))
            scale = {"xscale": "log", "yscale": "log"} if those else {}
            axes.set(title=f"{MODES[mode]}, {dtype}", xlabel="H", ylabel="us a step", **scale)
            axes.grid(alpha=0.3, which="both")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(f"B = {rows}; of several forms of a row the fastest")
        paths.append(folder / f"gpu-B{rows}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def write(results: dict[str, Any] | None, folder: Path) -> Path:
    """Writes ``gpu.md``; without results it says that nothing was measured, and what to run."""
    cells = results["cells"] if results else []
    if results:
        here = results["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items() if version)
        where = f"{here['date']}, {here['device']} ({here['machine']}), {versions}; {here['precision']}."
    else:
        where = "Not measured: no GPU was at hand. One command on a machine with one: `python -m benchmarks.gpu`;"
        where += "\nit names the file that `--report` makes these tables from."
    header = "| B | H | dtype | mode | row | us a step | quartiles | error against float64 |\n" + "| --- " * 8 + "|"
    every = "\n".join([header, *map(cell_lines, cells)]) if cells else "None yet."
    images = "".join(f"![{one.stem}]({one.name})\n\n" for one in draw(cells, folder))
    path = folder / "gpu.md"
    path.write_text(f"# On a GPU\n\n{where}\n\n{targets(cells)}\n\n{images}## Every row\n\n{every}\n")
    return path
