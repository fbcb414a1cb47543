"""Plots that several examples share: a confusion matrix and attention weights."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from lstm_jax.training.metrics import Confusion


def plot_confusion(confusion: Confusion, names: Sequence[str], path: Path) -> None:
    """Plots a confusion matrix.

    Args:
        confusion: counts of C true and predicted classes, ``[C, C]``.
        names: names of the classes, ``C`` of them.
        path: the image file to write.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    size = 2.6 + 0.55 * len(names)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    display = ConfusionMatrixDisplay(np.asarray(confusion.counts).astype(int), display_labels=names)
    display.plot(ax=figure.subplots(), cmap="cividis", xticks_rotation=60)
    figure.savefig(path, dpi=120)


def plot_attention(
    weights: jax.Array | np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    path: Path,
    *,
    figsize: tuple[float, float],
    title: str = "",
    labels: tuple[str, str] = ("", ""),
    rotation: float = 0,
) -> None:
    """Plots attention weights as a heat map.

    Args:
        weights: weights from 0 to 1, ``[R, C]``.
        rows: labels of the R rows.
        columns: labels of the C columns.
        path: the image file to write.
        figsize: width and height in inches.
        title: the title of the plot.
        labels: labels of the x axis and the y axis.
        rotation: angle of the column labels in degrees.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=rotation, ha="right" if rotation else "center")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    figure.colorbar(image, label="attention")
    figure.savefig(path, dpi=120)
