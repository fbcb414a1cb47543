"""Plots of per-step values as colors: heat maps of traces and colored texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from lstm_jax.diagnostics.attribution import Attribution
from lstm_jax.diagnostics.plots.figures import (
    COLORS,
    DIVERGING,
    SEQUENTIAL,
    Figure,
    File,
    Normalize,
    Rectangle,
    ScalarMappable,
    colormaps,
    new_figure,
    save_figure,
)
from lstm_jax.diagnostics.traces import SIGMOID_LETTERS

CHARACTERS_PER_LINE = 80
"""Line width of a plotted text."""

MAX_LABELED_STEPS, MAX_NUMBERED_UNITS = 120, 60
"""Largest numbers of steps and units whose labels are written on the axes; above them ticks are used."""

COLOR_LIMIT_QUANTILE = 0.995
"""Quantile of the magnitudes at which the colors of a heat map saturate, so that outliers do not dominate."""


def plot_heatmap(
    values: ArrayLike,
    path: File,
    *,
    name: str,
    labels: Sequence[str] | None = None,
    series: ArrayLike | None = None,
    units: Sequence[int] | None = None,
) -> None:
    """Plots one field of a trace as a heat map with steps on the x axis and hidden units on the y axis.

    Args:
        values: one field ``[T, H]`` of the trace of one sequence.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        name: name of the field, such as ``"f"``; gates use a color scale from 0 to 1, other fields one centered at 0.
        labels: one character or word per step; None means step numbers.
        series: ``[T]``, plotted as a line above the heat map; None means no line.
        units: indices of the units to plot, from top to bottom; None means all.
    Raises:
        ValueError: if ``values`` is not ``[T, H]``, or the length of ``labels`` or ``series`` is not T.

    Example:
        >>> import io, numpy as np, lstm_jax as lj
        >>> file = io.BytesIO()
        >>> lj.diagnostics.plots.plot_heatmap(np.eye(3), file, name="f", labels=["a", "b", "c"])
        >>> file.getbuffer().nbytes > 0
        True
    """
    rows = np.asarray(values).T
    if rows.ndim != 2:
        raise ValueError(f"values: got shape {rows.T.shape}, want [T, H] of one sequence, cut at its length")
    unit_numbers = np.arange(len(rows)) if units is None else np.asarray(units)
    rows = rows[unit_numbers]
    num_units, num_steps = rows.shape
    for argument, per_step in (("labels", labels), ("series", series)):
        if per_step is not None and len(np.asarray(per_step)) != num_steps:
            raise ValueError(f"{argument}: got {len(np.asarray(per_step))}, want one for each of the {num_steps} steps")
    figure = Figure(figsize=(min(16, 2.5 + 0.14 * num_steps), min(12, 1.6 + 0.2 * num_units)), layout="constrained")
    if series is None:
        axes = figure.subplots()
    else:
        line_axes, axes = figure.subplots(2, sharex=True, height_ratios=(1, max(1.0, 0.15 * num_units)))
        line_axes.plot(np.arange(num_steps), np.asarray(series), color=COLORS[0])
        line_axes.set(ylabel="series")
    is_gate = name in SIGMOID_LETTERS
    image = _draw_image(axes, rows, is_gate)
    figure.colorbar(image, ax=axes, label=f"{name} (gate, 0 to 1)" if is_gate else name)
    if labels is not None and num_steps <= MAX_LABELED_STEPS:
        axes.set_xticks(range(num_steps), [_replace_nonprintable(label) or "↵" for label in labels], fontsize=8)
        axes.tick_params("x", length=0, rotation=90 if max(map(len, labels)) > 2 else 0)
    if num_units <= MAX_NUMBERED_UNITS:
        axes.set_yticks(range(num_units), [str(unit) for unit in unit_numbers], fontsize=8)
    axes.set(xlabel="step" if labels is None else "input, step by step", ylabel="unit")
    save_figure(figure, path)


def _draw_image(axes: Any, rows: np.ndarray, is_gate: bool) -> Any:
    """Draws values ``[H, T]`` as an image on the axes."""
    bound = 1.0 if is_gate else float(np.quantile(np.abs(rows), COLOR_LIMIT_QUANTILE)) or 1.0
    color_map, lower_bound = (SEQUENTIAL, 0.0) if is_gate else (DIVERGING, -bound)
    return axes.imshow(rows, cmap=color_map, vmin=lower_bound, vmax=bound, aspect="auto", interpolation="none")


def plot_text(
    labels: Sequence[str],
    values: ArrayLike,
    path: File,
    *,
    title: str = "",
    value_label: str = "value",
    separator: str = "",
) -> None:
    """Plots a text with characters or words colored by value: blue-violet below 0, orange above.

    Args:
        labels: the characters or words of the text; a label ending in a line break ends the line.
        values: ``[T]``, one value per label, such as a unit's memory or an attribution.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        title: title of the plot.
        value_label: label of the color bar.
        separator: text between labels, such as ``" "`` for words.
    Raises:
        ValueError: if ``values`` is not one finite value per label.

    Example:
        >>> import io, lstm_jax as lj
        >>> file = io.BytesIO()
        >>> lj.diagnostics.plots.plot_text(["not", "bad"], [-0.5, 1.0], file, separator=" ")
        >>> file.getbuffer().nbytes > 0
        True
    """
    value_array = np.asarray(values, np.float64)
    if value_array.shape != (len(labels),) or not np.isfinite(value_array).all():
        raise ValueError(f"values: got {value_array.shape}, want a finite number for each of the {len(labels)} labels")
    bound = float(np.abs(value_array).max()) or 1.0
    positions, num_lines = _wrap_labels(labels, len(separator))
    height = 1.1 + 0.19 * num_lines
    figure, axes = new_figure(8.6, height)
    axes.set(xlim=(0, CHARACTERS_PER_LINE), ylim=(num_lines, 0), title=title)
    axes.set_axis_off()
    color_scale = ScalarMappable(Normalize(-bound, bound), colormaps[DIVERGING])
    for label, value, (line, column) in zip(labels, value_array, positions, strict=True):
        _draw_label(axes, _replace_nonprintable(label), color_scale.to_rgba(value), line, column)
    bar_style: dict[str, Any] = {"orientation": "horizontal", "shrink": 0.6, "fraction": 0.4 / height, "aspect": 30}
    figure.colorbar(color_scale, ax=axes, label=value_label, **bar_style)
    save_figure(figure, path)


def plot_attribution(words: Sequence[str], attribution: Attribution, path: File, *, title: str = "") -> None:
    """Plots a sentence colored by each word's contribution to a score: orange if positive, blue-violet if negative.

    Args:
        words: the T words of the sentence.
        attribution: the result of ``integrated_gradients`` or ``gradient_times_input`` for these words.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        title: title of the plot.
    Raises:
        ValueError: if the attribution is not one finite value per word.

    Example:
        >>> import io, jax.numpy as jnp, lstm_jax as lj
        >>> attribution = lj.diagnostics.gradient_times_input(lambda xs: xs[1, 0], jnp.ones((2, 1)))
        >>> file = io.BytesIO()
        >>> lj.diagnostics.plots.plot_attribution(["not", "bad"], attribution, file)
        >>> file.getbuffer().nbytes > 0
        True
    """
    plot_text(words, attribution.per_step, path, title=title, value_label="contribution to the score", separator=" ")


def _replace_nonprintable(label: str) -> str:
    """Returns the label without its final line break and with a dot for each non-printable character."""
    return "".join(character if character.isprintable() else "·" for character in label.rstrip("\n"))


def _draw_label(axes: Any, label: str, color: Any, line: int, column: int) -> None:
    """Draws a label on a rectangle of its color, one axis unit per character."""
    axes.add_patch(Rectangle((column, line), max(len(label), 1), 1, color=color, linewidth=0))
    is_dark = np.dot(color[:3], (0.3, 0.59, 0.11)) < 0.5
    style: dict[str, Any] = {"family": "monospace", "fontsize": 9, "ha": "center", "va": "center"}
    for offset, character in enumerate(label):
        axes.text(column + offset + 0.5, line + 0.5, character, color="white" if is_dark else "black", **style)


def _wrap_labels(labels: Sequence[str], separator_width: int) -> tuple[list[tuple[int, int]], int]:
    """Returns the ``(line, column)`` of each label in a character grid, and the number of lines."""
    positions = []
    line, column = 0, 0
    for label in labels:
        width = len(label.rstrip("\n"))
        if column and column + width > CHARACTERS_PER_LINE:
            line, column = line + 1, 0
        positions.append((line, column))
        column += width + separator_width
        if label.endswith("\n"):
            line, column = line + 1, 0
    return positions, line + 1
