"""Figure creation, color palettes and image files of all plots; the only module that imports matplotlib."""

from pathlib import Path
from typing import Any, BinaryIO

from lstm_jax._core.extras import missing_extra

try:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ModuleNotFoundError as error:
    raise missing_extra("matplotlib", "diagnostics") from error

__all__ = [
    "COLORS",
    "DIVERGING",
    "SEQUENTIAL",
    "Figure",
    "File",
    "Normalize",
    "Rectangle",
    "ScalarMappable",
    "colormaps",
    "new_figure",
    "save_figure",
]

File = str | Path | BinaryIO
"""A path whose suffix selects the image format, or a binary file opened for writing, which receives a PNG."""

DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
"""Color maps for signed values and for values from 0 to 1."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colors of lines and points (Okabe and Ito 2008)."""

DPI = 120
"""Resolution of saved images in dots per inch."""


def new_figure(width: float, height: float) -> tuple[Figure, Any]:
    """Returns a figure of the given size in inches, and its axes.

    Args:
        width: in inches.
        height: in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def save_figure(figure: Figure, path: File) -> None:
    """Writes a figure to a file at the common resolution.

    Args:
        figure: the figure.
        path: a path, or a binary file open for writing.
    """
    figure.savefig(path, dpi=DPI)
