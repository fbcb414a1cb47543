"""Pictures of what the other files measure: matplotlib, colours that colour-blind readers can tell apart.

Each function saves one file and returns nothing; the ending of ``path`` chooses the format.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstm_jax._core.structs import PyTree
from lstm_jax.diagnostics.attribution import Attribution
from lstm_jax.diagnostics.dynamics import FixedPoints, principal_components, project_onto
from lstm_jax.diagnostics.traces import SIGMOIDS, UnitStats

DIVERGING, RISING = "PuOr_r", "cividis"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008."""
DPI = 120
COLUMNS = 80
"""characters in a line of a coloured text"""
LONGEST = 1e6
"""steps, where time constants are drawn that are longer"""
NOISE = {"float32": 6, "float64": 14}
"""Decimal digits that a product of Jacobians holds."""
MOST = 60
"""trajectories in a picture"""


def plot_heat(
    values: ArrayLike,
    path: Path,
    *,
    name: str,
    labels: Sequence[str] | None = None,
    series: ArrayLike | None = None,
    cells: Sequence[int] | None = None,
) -> None:
    """One field of a trace as a heat map: steps to the right, cells downwards.

    Args:
        values: ``[T, H]``.
        name: of the field, such as ``"f"``: gates are drawn from 0 to 1, all else around 0.
        labels: of the steps, characters or words; None counts them.
        series: ``[T]``, drawn above the map as a line.
        cells: which to draw, in this order; None means all.
    """
    shown = np.asarray(values).T
    if shown.ndim != 2:
        raise ValueError(f"values: got shape {shown.T.shape}, want [T, H] of one sequence, cut at its length")
    chosen = np.arange(len(shown)) if cells is None else np.asarray(cells)
    shown = shown[chosen]
    steps = shown.shape[1]
    for given, what in ((labels, "labels"), (series, "series")):
        if given is not None and len(np.asarray(given)) != steps:
            raise ValueError(f"{what}: got {len(np.asarray(given))}, want one for each of the {steps} steps")
    figure = Figure(figsize=(min(16, 2.5 + 0.14 * steps), min(12, 1.6 + 0.2 * len(chosen))), layout="constrained")
    if series is None:
        axes = figure.subplots()
    else:
        above, axes = figure.subplots(2, sharex=True, height_ratios=(1, max(1.0, 0.15 * len(chosen))))
        above.plot(np.arange(steps), np.asarray(series), color=COLOURS[0])
        above.set(ylabel="series")
    gate = name in SIGMOIDS
    bound = 1.0 if gate else float(np.quantile(np.abs(shown), 0.995)) or 1.0
    image = axes.imshow(
        shown,
        cmap=RISING if gate else DIVERGING,
        vmin=0 if gate else -bound,
        vmax=bound,
        aspect="auto",
        interpolation="none",
    )
    figure.colorbar(image, ax=axes, label=f"{name} (gate, 0 to 1)" if gate else name)
    if labels is not None and steps <= 120:
        axes.set_xticks(range(steps), [visible(one) or "↵" for one in labels], fontsize=8)
        axes.tick_params("x", length=0, rotation=90 if max(map(len, labels)) > 2 else 0)
    if len(chosen) <= 60:
        axes.set_yticks(range(len(chosen)), [str(cell) for cell in chosen], fontsize=8)
    axes.set(xlabel="step" if labels is None else "input, step by step", ylabel="cell")
    figure.savefig(path, dpi=DPI)


def plot_text(
    labels: Sequence[str],
    values: ArrayLike,
    path: Path,
    *,
    title: str = "",
    meaning: str = "value",
    between: str = "",
) -> None:
    """A text whose characters or words are coloured by numbers: blue-violet below 0, orange above.

    Args:
        labels: the characters or words; a line break begins a new line.
        values: ``[T]``, one for each: a cell's memory, an attribution.
        meaning: what the numbers are, beside the colour bar.
        between: what stands between two labels, ``" "`` for words.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (len(labels),) or not np.isfinite(numbers).all():
        raise ValueError(f"values: got {numbers.shape}, want a finite number for each of the {len(labels)} labels")
    bound = float(np.abs(numbers).max()) or 1.0
    places, lines = _lay_out(labels, len(between))
    figure = Figure(figsize=(8.6, 1.1 + 0.19 * lines), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, COLUMNS), ylim=(lines, 0), title=title)
    axes.set_axis_off()
    scale = ScalarMappable(Normalize(-bound, bound), colormaps[DIVERGING])
    for label, number, (line, column) in zip(labels, numbers, places, strict=True):
        colour = scale.to_rgba(number)
        width = max(len(label.rstrip("\n")), 1)
        axes.add_patch(Rectangle((column, line), width, 1, color=colour, linewidth=0))
        dark = np.dot(colour[:3], (0.3, 0.59, 0.11)) < 0.5
        for offset, character in enumerate(visible(label)):
            style: dict[str, Any] = {"family": "monospace", "fontsize": 9, "ha": "center", "va": "center"}
            axes.text(column + offset + 0.5, line + 0.5, character, color="white" if dark else "black", **style)
    figure.colorbar(
        scale,
        ax=axes,
        label=meaning,
        orientation="horizontal",
        shrink=0.6,
        fraction=0.4 / (1.1 + 0.19 * lines),
        aspect=30,
    )
    figure.savefig(path, dpi=DPI)


def visible(label: str) -> str:
    """The label without its line break, other characters that have no shape as a dot."""
    return "".join(one if one.isprintable() else "·" for one in label.rstrip("\n"))


def plot_attribution(words: Sequence[str], found: Attribution, path: Path, *, title: str = "") -> None:
    """A sentence coloured by what each word contributes: orange for the score, blue-violet against it."""
    plot_text(words, found.steps, path, title=title, meaning="contribution to the score", between=" ")


def plot_flow(
    norms: Mapping[str, ArrayLike], path: Path, *, title: str = "", ylabel: str = "norm of the gradient"
) -> None:
    """Sizes over time on a logarithmic scale, one line for each name: gradients of states, products of Jacobians.

    Args:
        norms: ``[T]`` by name; numbers, not logarithms.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, values), colour in zip(norms.items(), COLOURS * len(norms), strict=False):
        shown = np.asarray(values, np.float64)
        if shown.ndim != 1:
            raise ValueError(
                f"norms: got {name!r} of shape {shown.shape}, want [T]: of one sequence, or over the batch"
            )
        axes.semilogy(np.arange(len(shown)), np.where(shown > 0, shown, np.nan), color=colour, label=name)
    axes.set(xlabel="step of the sequence", ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=DPI)


def plot_spectra(spectra: ArrayLike, path: Path, *, title: str = "") -> None:
    """How much of a step's state reaches the end: the singular values of the product of Jacobians, as a fan; those that
    rounding hides are left out.

    Args:
        spectra: ``[T, S]`` of ``product_spectra``, logarithms to base 10.
    """
    shown = np.asarray(spectra)
    steps, size = np.arange(len(shown)), shown.shape[1]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for share, colour in ((0.0, COLOURS[0]), (0.25, COLOURS[5]), (0.5, COLOURS[2])):
        place = int(share * (size - 1))
        sound = shown[:, place] > shown[:, 0] - NOISE.get(shown.dtype.name, 6)
        axes.plot(steps, np.where(sound, shown[:, place], np.nan), color=colour, label=f"number {place + 1} of {size}")
    axes.axhline(0, color="0.7", linewidth=1)
    axes.set(xlabel="step t", ylabel="log10 of singular values, d state(T) / d state(t)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=DPI)


def plot_units(found: UnitStats, path: Path) -> None:
    """How long an LSTM's units remember, and how often their gates stand open and shut."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    times = np.clip(np.asarray(found.time_constant), 1e-3, LONGEST)
    low, high = np.floor(np.log10(times.min())), np.ceil(np.log10(times.max()))
    left.hist(times, bins=np.logspace(low, max(high, low + 1), 25), color=COLOURS[0])
    left.set(xscale="log", xlabel="time constant of the memory, steps", ylabel="unit_stats")
    for (name, opened), colour in zip(found.open_shares.items(), COLOURS, strict=False):
        right.plot(opened, found.closed_shares[name], "o", color=colour, alpha=0.6, markersize=4, label=name)
    right.plot([0, 1], [1, 0], color="0.7", linewidth=1)
    right.set(
        xlabel="share of steps above 0.9", ylabel="share of steps below 0.1", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03)
    )
    right.legend(title="gate")
    figure.savefig(path, dpi=DPI)


def plot_fixed_points(found: FixedPoints, trajectories: PyTree, path: Path, *, title: str = "") -> None:
    """Trajectories and fixed points along the two widest principal components of the trajectories.

    Args:
        found: of ``distinct``.
        trajectories: states of the same kind, parts ``[T, *batch, H]``, or a trace.
    """
    if isinstance(trajectories, dict):
        names = getattr(found.states, "_fields", ())
        trajectories = type(found.states)(*(trajectories[one] for one in names)) if names else trajectories["h"]
    if str(jax.tree.structure(trajectories)) != str(jax.tree.structure(found.states)):
        raise ValueError(
            f"trajectories: got {type(trajectories).__name__}, want {type(found.states).__name__} as found"
        )
    components = principal_components(trajectories)
    lines = np.asarray(project_onto(components, trajectories)).reshape(len(jax.tree.leaves(trajectories)[0]), -1, 2)
    points = np.asarray(project_onto(components, found.states))
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for line in lines.swapaxes(0, 1)[:MOST]:
        axes.plot(*line.T, color="0.6", linewidth=0.5, alpha=0.5, zorder=1)
    unstable = np.asarray(found.unstable)
    for count, colour in zip(sorted(set(unstable.tolist())), COLOURS * len(points), strict=False):
        chosen = points[unstable == count]
        name = "stable" if count == 0 else f"saddle, {count} direction{'s' * (count > 1)} growing"
        style: dict[str, Any] = {"marker": "o" if count == 0 else "X", "s": 70, "edgecolor": "white", "zorder": 3}
        axes.scatter(*chosen.T, color=colour, label=f"{name}: {len(chosen)}", **style)
    names = [f"component {k + 1} ({share:.0%} of the variance)" for k, share in enumerate(components.shares)]
    axes.set(xlabel=names[0], ylabel=names[1], title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)


def plot_readings(rows: Sequence[Mapping[str, float]], path: Path, *, kind: str = "gradient_norm") -> None:
    """What ``monitor`` measured over training, a line for each parameter.

    Args:
        rows: of ``recorder``.
        kind: ``"gradient_norm"`` or ``"update_ratio"``.
    """
    names = [name for name in rows[0] if name.startswith(kind)] if rows else []
    if not names:
        raise ValueError(f"rows: got none with {kind!r}, want those that diagnostics.recorder gathers")
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    styles = [(colour, style) for style in ("-", "--", ":", "-.") for colour in COLOURS]
    for number, name in enumerate(names):
        colour, style = styles[number % len(styles)]
        axes.semilogy(
            [row["step"] for row in rows],
            [row[name] or np.nan for row in rows],
            color=colour,
            linestyle=style,
            label=name.removeprefix(kind).strip(),
        )
    axes.set(xlabel="step", ylabel=kind.replace("_", " ") + (", |change| / |parameter|" if "ratio" in kind else ""))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)


def _lay_out(labels: Sequence[str], gap: int) -> tuple[list[tuple[int, int]], int]:
    """Line and column of each label in a grid of characters, and how many lines."""
    places, line, column = [], 0, 0
    for label in labels:
        width = len(label.rstrip("\n"))
        if column and column + width > COLUMNS:
            line, column = line + 1, 0
        places.append((line, column))
        column += width + gap
        if label.endswith("\n"):
            line, column = line + 1, 0
    return places, line + 1
