"""Line, histogram and scatter plots: gradient norms, spectra, unit statistics, fixed points, monitor readings."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from lstm_jax._core.structs import PyTree
from lstm_jax.diagnostics.dynamics import FixedPoints, principal_components, project_onto
from lstm_jax.diagnostics.plots.figures import COLORS, Figure, File, new_figure, save_figure
from lstm_jax.diagnostics.traces import CLOSED_BELOW, OPEN_ABOVE, UnitStats

MIN_TIME_CONSTANT, MAX_TIME_CONSTANT = 1e-3, 1e6
"""Range of plotted time constants in steps; values outside are clipped."""

SIGNIFICANT_DIGITS = {"float32": 6, "float64": 14}
"""Significant decimal digits of a product of Jacobians, by dtype."""

MAX_TRAJECTORIES = 60
"""Maximum number of trajectories in a plot of fixed points."""


def plot_norms(
    norms: Mapping[str, ArrayLike], path: File, *, title: str = "", ylabel: str = "norm of the gradient"
) -> None:
    """Plots norms over the steps of a sequence on a logarithmic scale, one line per name.

    Args:
        norms: arrays ``[T]`` by name, for example norms of ``state_gradients``; not logarithms.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        title: title of the plot.
        ylabel: label of the y axis.
    Raises:
        ValueError: if an array is not ``[T]``.

    Example:
        >>> import io, lstm_jax as lj
        >>> file = io.BytesIO()
        >>> lj.diagnostics.plots.plot_norms({"LSTM": [0.2, 0.5, 1.0], "GRU": [1e-6, 1e-3, 1.0]}, file)
        >>> file.getbuffer().nbytes > 0
        True
    """
    figure, axes = new_figure(7, 4)
    for (name, values), color in zip(norms.items(), COLORS * len(norms), strict=False):
        line = np.asarray(values, np.float64)
        if line.ndim != 1:
            raise ValueError(f"norms: got {name!r} of shape {line.shape}, want [T]: of one sequence, or over the batch")
        axes.semilogy(np.arange(len(line)), np.where(line > 0, line, np.nan), color=color, label=name)
    axes.set(xlabel="step of the sequence", ylabel=ylabel, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def plot_spectra(spectra: ArrayLike, path: File, *, title: str = "") -> None:
    """Plots three singular values of ``ds_T / ds_t`` over t: the largest, the upper quartile and the median.

    These show how strongly the state at step t influences the final state. Values below rounding error are omitted.

    Args:
        spectra: log10 of singular values ``[T, S]`` from ``product_spectra``.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        title: title of the plot.

    Example:
        >>> import io, jax.numpy as jnp, lstm_jax as lj
        >>> file = io.BytesIO()
        >>> spectra = lj.diagnostics.product_spectra(jnp.full((3, 1, 1), 0.1))
        >>> lj.diagnostics.plots.plot_spectra(spectra, file)
        >>> file.getbuffer().nbytes > 0
        True
    """
    logs = np.asarray(spectra)
    num_steps, state_size = logs.shape
    figure, axes = new_figure(7, 4)
    for fraction, color in ((0.0, COLORS[0]), (0.25, COLORS[5]), (0.5, COLORS[2])):
        index = int(fraction * (state_size - 1))
        is_significant = logs[:, index] > logs[:, 0] - SIGNIFICANT_DIGITS.get(logs.dtype.name, 6)
        line = np.where(is_significant, logs[:, index], np.nan)
        axes.plot(np.arange(num_steps), line, color=color, label=f"number {index + 1} of {state_size}")
    axes.axhline(0, color="0.7", linewidth=1)
    axes.set(xlabel="step t", ylabel="log10 of singular values, d state(T) / d state(t)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def plot_unit_stats(stats: UnitStats, path: File) -> None:
    """Plots a histogram of the units' time constants, and the open and closed fractions of each unit's gates.

    Args:
        stats: the result of ``unit_stats``.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).

    Example:
        >>> import io, jax, jax.numpy as jnp, lstm_jax as lj
        >>> fields = lj.diagnostics.trace(lj.init_params(jax.random.key(0), 3, 8), jnp.ones((5, 3)))
        >>> file = io.BytesIO()
        >>> lj.diagnostics.plots.plot_unit_stats(lj.diagnostics.unit_stats(fields), file)
        >>> file.getbuffer().nbytes > 0
        True
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    histogram_axes, gate_axes = figure.subplots(1, 2)
    time_constants = np.clip(np.asarray(stats.time_constant), MIN_TIME_CONSTANT, MAX_TIME_CONSTANT)
    low = np.floor(np.log10(time_constants.min()))
    high = np.ceil(np.log10(time_constants.max()))
    histogram_axes.hist(time_constants, bins=np.logspace(low, max(high, low + 1), 25), color=COLORS[0])
    histogram_axes.set(xscale="log", xlabel="time constant of the memory, steps", ylabel="units")
    for (letter, fractions), color in zip(stats.open_fractions.items(), COLORS, strict=False):
        style: dict[str, Any] = {"color": color, "alpha": 0.6, "markersize": 4, "label": letter}
        gate_axes.plot(fractions, stats.closed_fractions[letter], "o", **style)
    gate_axes.plot([0, 1], [1, 0], color="0.7", linewidth=1)
    labels = f"fraction of steps above {OPEN_ABOVE}", f"fraction of steps below {CLOSED_BELOW}"
    gate_axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    gate_axes.legend(title="gate")
    save_figure(figure, path)


def plot_fixed_points(points: FixedPoints, trajectories: PyTree, path: File, *, title: str = "") -> None:
    """Plots trajectories and fixed points along the first two principal components of the trajectories.

    Args:
        points: the result of ``distinct_points``.
        trajectories: states ``[T, *batch, H]`` of the same structure as ``points.states``, or a trace.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        title: title of the plot.
    Raises:
        ValueError: if the structures of trajectories and points differ.

    Example:
        >>> import io, jax, jax.numpy as jnp, lstm_jax as lj
        >>> params, file = lj.init_params(jax.random.key(0), 3, 8), io.BytesIO()
        >>> points = lj.diagnostics.fixed_points(params, jnp.zeros(3), lj.zero_state(params, (4,)), adam_steps=9)
        >>> lj.diagnostics.plots.plot_fixed_points(points, lj.diagnostics.trace(params, jnp.ones((5, 3))), file)
        >>> file.getbuffer().nbytes > 0
        True
    """
    if isinstance(trajectories, dict):
        letters = getattr(points.states, "_fields", ())
        parts = [trajectories[letter] for letter in letters]
        trajectories = type(points.states)(*parts) if letters else trajectories["h"]
    if str(jax.tree.structure(trajectories)) != str(jax.tree.structure(points.states)):
        wanted = type(points.states).__name__
        raise ValueError(f"trajectories: got {type(trajectories).__name__}, want {wanted} as points.states")
    components = principal_components(trajectories)
    num_steps = len(jax.tree.leaves(trajectories)[0])
    lines = np.asarray(project_onto(components, trajectories)).reshape(num_steps, -1, 2)
    coordinates = np.asarray(project_onto(components, points.states))
    figure, axes = new_figure(9, 5.5)
    for line in lines.swapaxes(0, 1)[:MAX_TRAJECTORIES]:
        axes.plot(*line.T, color="0.6", linewidth=0.5, alpha=0.5, zorder=1)
    num_unstable = np.asarray(points.num_unstable)
    for count, color in zip(sorted(set(num_unstable.tolist())), COLORS * len(coordinates), strict=False):
        group = coordinates[num_unstable == count]
        kind = "stable" if count == 0 else f"saddle, {count} direction{'s' * (count > 1)} growing"
        style: dict[str, Any] = {"marker": "o" if count == 0 else "X", "s": 70, "edgecolor": "white", "zorder": 3}
        axes.scatter(*group.T, color=color, label=f"{kind}: {len(group)}", **style)
    ratios = components.explained_variance_ratio
    labels = [f"component {k} ({ratio:.0%} of the variance)" for k, ratio in enumerate(ratios, start=1)]
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, path)


def plot_readings(rows: Sequence[Mapping[str, float]], path: File, *, quantity: str = "gradient_norm") -> None:
    """Plots the readings of ``monitor`` over training, one line per parameter.

    Args:
        rows: the rows collected by ``recorder``.
        path: path of the image, whose suffix selects the format, or a binary file opened for writing (PNG).
        quantity: the reading to plot, ``"gradient_norm"`` or ``"update_ratio"``.
    Raises:
        ValueError: if the rows do not contain this quantity.

    Example:
        >>> import io, lstm_jax as lj
        >>> file = io.BytesIO()
        >>> rows = [{"step": 1, "gradient_norm bias": 0.5}, {"step": 2, "gradient_norm bias": 0.2}]
        >>> lj.diagnostics.plots.plot_readings(rows, file)
        >>> file.getbuffer().nbytes > 0
        True
    """
    names = [name for name in rows[0] if name.startswith(quantity)] if rows else []
    if not names:
        raise ValueError(f"rows: got none with {quantity!r}, want those that diagnostics.recorder gathers")
    figure, axes = new_figure(9, 4)
    styles = [(color, linestyle) for linestyle in ("-", "--", ":", "-.") for color in COLORS]
    for index, name in enumerate(names):
        color, linestyle = styles[index % len(styles)]
        steps = [row["step"] for row in rows]
        values = [row[name] or np.nan for row in rows]
        label = name.removeprefix(quantity).strip()
        axes.semilogy(steps, values, color=color, linestyle=linestyle, label=label)
    unit = ", |update| / |parameter|" if quantity == "update_ratio" else ""
    axes.set(xlabel="step", ylabel=quantity.replace("_", " ") + unit)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, path)
