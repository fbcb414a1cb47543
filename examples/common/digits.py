"""Reads images and pen strokes of digits: scikit-learn's images, MNIST's four files, the UCI pen strokes.

A file that cannot be used is explained by option and file.
"""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

NUM_DIGITS = 10
NUM_SKLEARN_TRAIN = 1297
"""of scikit-learn's 1797 images, the rest are for testing"""
PERMUTATION_SEED = 92916
"""of the order of permuted pixels; papers do not tell theirs"""


class Digits(NamedTuple):
    """N images or sequences and the digit that each shows."""

    x: np.ndarray
    """``[N, height, width]`` from 0 to 1, or sequences ``[N, T, D]``"""
    y: np.ndarray
    """``[N]``"""

    def split(self, index: int) -> tuple["Digits", "Digits"]:
        """Returns the rows before an index and those from it on."""
        return Digits(self.x[:index], self.y[:index]), Digits(self.x[index:], self.y[index:])


def sklearn_digits() -> Digits:
    """Loads scikit-learn's 1797 images of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Digits(x.reshape(-1, 8, 8) / 16, y)


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file: two zero bytes, the type 8 for bytes, the number of axes, their sizes, the bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise SystemExit(f"--data: {path} cannot be read: {error}") from None
    axes = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = tuple(np.frombuffer(data, ">i4", axes, 4)) if len(data) >= 4 + 4 * axes else (0,)
    if not axes or len(data) != 4 + 4 * axes + np.prod(shape):
        raise SystemExit(f"--data: {path} is no whole IDX file of bytes")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_images(folder: Path | None = None) -> tuple[Digits, Digits]:
    """Reads training and test part of MNIST's four files in a folder.

    Without a folder it splits scikit-learn's images: the first 1297 are the training part.
    """
    if folder is None:
        return sklearn_digits().split(NUM_SKLEARN_TRAIN)
    parts = []
    for part in ("train", "t10k"):
        x, y = (read_idx(folder / f"{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        if len(x) != len(y) or x.ndim != 3:
            raise SystemExit(f"--data: {part}: got {x.shape} images and {y.shape} labels, want as many of each")
        parts.append(Digits(x / 255, y))
    return parts[0], parts[1]


def to_sequences(images: Digits, order: str) -> Digits:
    """Turns images into sequences.

    Args:
        images: ``[N, height, width]``.
        order: "rows" for ``[N, height, width]``; "pixels" for ``[N, height * width, 1]`` in reading order; "permuted"
            for pixels in a fixed random order.
    Returns:
        Sequences in float32 and labels in int32.
    """
    x = images.x.astype(np.float32)
    if order != "rows":
        x = x.reshape(len(x), -1, 1)
    if order == "permuted":
        x = x[:, np.random.default_rng(PERMUTATION_SEED).permutation(x.shape[1])]
    return Digits(x, images.y.astype(np.int32))


def read_strokes(path: Path) -> Digits:
    """Reads lines of 8 pen positions of two coordinates and a digit into sequences ``[N, 8, 2]`` from -1 to 1."""
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except OSError:
        raise SystemExit(f"--data: {path} is not a file") from None
    except ValueError as error:
        raise SystemExit(f"--data: {path}: want lines of 16 coordinates and a digit, got {error}") from None
    if table.shape[1:] != (17,) or not np.isin(table[:, 16], np.arange(NUM_DIGITS)).all():
        raise SystemExit(f"--data: {path}: got {table.shape[-1]} columns, want 16 coordinates and a digit from 0 to 9")
    return Digits(table[:, :16].reshape(-1, 8, 2) / 50 - 1, table[:, 16].astype(np.int32))


def read_pen_strokes(folder: Path | None) -> tuple[Digits, Digits, Digits]:
    """Reads training, validation and test part of pendigits.tra and pendigits.tes; the second is a fifth of the first.

    Without a folder they are the rows of scikit-learn's images, from -1 to 1.
    """
    if folder is None:
        images = sklearn_digits()
        rows = Digits((2 * images.x - 1).astype(np.float32), images.y.astype(np.int32))
        train, test = rows.split(NUM_SKLEARN_TRAIN)
    else:
        train, test = read_strokes(folder / "pendigits.tra"), read_strokes(folder / "pendigits.tes")
    return *train.split(len(train.y) * 4 // 5), test


def plot_reading(images: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """Draws images ``[N, height, width]`` and the probability of each digit after each row, ``[N, height, 10]``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * len(images), 4.2), layout="constrained")
    grid = figure.subplots(2, len(images), squeeze=False).T
    for (above, below), image, by_row in zip(grid, images, probabilities, strict=True):
        above.imshow(image, cmap="Greys")
        above.set_axis_off()
        heatmap = below.imshow(by_row, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        below.set(xticks=range(NUM_DIGITS), xlabel="digit", ylabel="rows read")
    figure.colorbar(heatmap, label="probability")
    figure.savefig(path, dpi=110)
