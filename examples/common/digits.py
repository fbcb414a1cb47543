"""Reads images and pen strokes of digits: scikit-learn's images, MNIST's four files, the UCI pen strokes.

Readers end the program with a message that names option and file where a file cannot be used.
"""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

NUM_DIGITS = 10
NUM_SKLEARN_TRAIN = 1297
"""training images among scikit-learn's 1797; the rest are the test part"""
PERMUTATION_SEED = 92916
"""seed of the order of permuted pixels; papers do not report theirs"""


class Digits(NamedTuple):
    """N images or sequences with their labels."""

    x: np.ndarray
    """images ``[N, height, width]`` from 0 to 1, or sequences ``[N, T, D]``"""
    y: np.ndarray
    """digits ``[N]``"""

    def split(self, index: int) -> tuple["Digits", "Digits"]:
        """Splits the rows into those before an index and those from it on."""
        return Digits(self.x[:index], self.y[:index]), Digits(self.x[index:], self.y[index:])


def sklearn_digits() -> Digits:
    """Loads scikit-learn's 1797 images of 8 x 8 pixels, ``[1797, 8, 8]`` from 0 to 1."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Digits(x.reshape(-1, 8, 8) / 16, y)


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzipped IDX file of unsigned bytes into an array of the shape that the file declares.

    The format is two zero bytes, the type 8, the number of axes, the size of each axis (big-endian int32), the data.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise SystemExit(f"--data: {path} cannot be read: {error}") from None
    num_axes = data[3] if data[:3] == b"\0\0\x08" else 0
    header_size = 4 + 4 * num_axes
    shape = tuple(np.frombuffer(data, ">i4", num_axes, 4)) if len(data) >= header_size else (0,)
    if not num_axes or len(data) != header_size + np.prod(shape):
        raise SystemExit(f"--data: {path} is no whole IDX file of bytes")
    return np.frombuffer(data, np.uint8, offset=header_size).reshape(shape)


def read_images(folder: Path | None = None) -> tuple[Digits, Digits]:
    """Reads MNIST's training and test images.

    Args:
        folder: contains MNIST's four files; None means scikit-learn's images, the first 1297 for training.
    Returns:
        (train, test): images ``[N, height, width]`` from 0 to 1 with their digits.
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
    """Converts images to sequences of rows or pixels.

    Args:
        images: N images, ``[N, height, width]``.
        order: "rows" gives ``[N, height, width]``, one row a step; "pixels" ``[N, height * width, 1]`` in reading
            order; "permuted" the pixels in a fixed random order.
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
    """Reads a UCI pen-stroke file into sequences ``[N, 8, 2]`` of pen positions from -1 to 1.

    Each line has 16 coordinates from 0 to 100 and a digit, separated by commas.
    """
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
    """Reads the UCI pen strokes.

    Args:
        folder: contains pendigits.tra and pendigits.tes; None means the rows of scikit-learn's images, from -1 to 1.
    Returns:
        (train, valid, test): sequences ``[N, T, D]``; the last fifth of the training file is the validation part.
    """
    if folder is None:
        images = sklearn_digits()
        rows = Digits((2 * images.x - 1).astype(np.float32), images.y.astype(np.int32))
        train, test = rows.split(NUM_SKLEARN_TRAIN)
    else:
        train, test = read_strokes(folder / "pendigits.tra"), read_strokes(folder / "pendigits.tes")
    return *train.split(len(train.y) * 4 // 5), test


def plot_reading(images: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """Plots images and the probability of each digit after each row that was read.

    Args:
        images: N images, ``[N, height, width]``.
        probabilities: probabilities after each row, ``[N, height, 10]``.
        path: the image file to write.
    """
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
