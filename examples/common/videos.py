"""Makes videos of a digit that moves, bounces off the walls and passes behind a screen."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.digits import read_images, to_sequences

NUM_FRAMES = 20
FRAME_SIZE = 32
"""height and width of a frame in pixels"""
DIGIT_SIZE = 14
"""height and width of a digit in pixels"""
SCREEN = slice(11, 21)
"""columns that the screen hides"""
CONTEXT_FRAMES = 5
"""frames before the first scored prediction"""


class Video(NamedTuple):
    """Frames of B videos and the positions of their digits."""

    frames: Any
    """``[T, B, FRAME_SIZE, FRAME_SIZE]``"""
    position: Any
    """row and column of the digit's center, ``[T, B, 2]``"""
    hidden: Any
    """whether the center is behind the screen, ``[T, B]``"""


class MovingDigits:
    """Batches of random videos; a batch depends on the seed and its index alone.

    Args:
        digits: images of digits, ``[N, DIGIT_SIZE, DIGIT_SIZE]``.
        batch_size: videos per batch.
        num_batches: number of batches.
        seed: seed of all batches.
    """

    def __init__(self, digits: np.ndarray, batch_size: int, num_batches: int, seed: int) -> None:
        self.digits = digits
        self.batch_size = batch_size
        self.num_batches = num_batches
        self.seed = seed

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> Video:
        rng = np.random.default_rng((self.seed, step))
        digits = self.digits[rng.integers(len(self.digits), size=self.batch_size)]
        max_corner = FRAME_SIZE - DIGIT_SIZE
        start = rng.uniform(0, max_corner, (self.batch_size, 2))
        angle, speed = rng.uniform(0, 2 * np.pi, self.batch_size), rng.uniform(1, 2.5, self.batch_size)
        velocity = speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        path = start + np.arange(NUM_FRAMES)[:, None, None] * velocity
        corner = max_corner - np.abs(path % (2 * max_corner) - max_corner)  # reflected at the walls
        frames = np.zeros((NUM_FRAMES, self.batch_size, FRAME_SIZE, FRAME_SIZE), np.float32)
        for t, row in np.ndindex(NUM_FRAMES, self.batch_size):
            y, x = np.round(corner[t, row]).astype(int)
            frames[t, row, y : y + DIGIT_SIZE, x : x + DIGIT_SIZE] = digits[row]
        frames[..., SCREEN] = 0
        center = corner + (DIGIT_SIZE - 1) / 2
        hidden = np.abs(center[..., 1] - (SCREEN.start + SCREEN.stop - 1) / 2) < 3
        return Video(frames, center.astype(np.float32), hidden)


def make_videos(
    folder: Path | None = None, part: str = "test", batch_size: int = 50, num_batches: int = 10, seed: int = 2
) -> MovingDigits:
    """Makes batches of videos of MNIST's or scikit-learn's digits.

    Args:
        folder: contains MNIST's four files; None means scikit-learn's images.
        part: "train" for the first nine tenths of the training images, or "test".
        batch_size: videos per batch.
        num_batches: number of batches.
        seed: seed of all batches.
    """
    train, test = (to_sequences(images, "rows") for images in read_images(folder))
    if part == "train":
        train = train.split(len(train.y) * 9 // 10)[0]
    return MovingDigits(resize_digits((train if part == "train" else test).x), batch_size, num_batches, seed)


def resize_digits(images: np.ndarray) -> np.ndarray:
    """Resizes images to ``[N, 14, 14]``: 28 x 28 pixels by 2 x 2 means, 8 x 8 by repeating pixels and cropping."""
    if images.shape[1] == 2 * DIGIT_SIZE:
        return images.reshape(-1, DIGIT_SIZE, 2, DIGIT_SIZE, 2).mean(axis=(2, 4))
    return np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)[:, 1:-1, 1:-1]


def naive_errors(video: Video) -> dict[str, float]:
    """Scores two baselines without a network.

    The first predicts that the next frame equals the last one. The second extrapolates the position of a hidden digit
    from its last two visible positions, which it is given exactly, whereas a model has to infer them.

    Args:
        video: a batch of videos.
    Returns:
        Mean squared error of the next frame, and mean distance of the hidden digit in pixels.
    """
    copy_error = float(np.mean((video.frames[CONTEXT_FRAMES:-1] - video.frames[CONTEXT_FRAMES + 1 :]) ** 2))
    distances = []
    for row in range(video.hidden.shape[1]):
        for t in np.flatnonzero(video.hidden[:, row]):
            visible = np.flatnonzero(~video.hidden[:t, row])
            if t < CONTEXT_FRAMES or len(visible) < 2:
                continue
            t1, t2 = visible[-2:]
            velocity = (video.position[t2, row] - video.position[t1, row]) / (t2 - t1)
            predicted = video.position[t2, row] + (t - t2) * velocity
            distances.append(np.linalg.norm(predicted - video.position[t, row]))
    return {"frame, copied": copy_error, "hidden, going on evenly": float(np.mean(distances))}


def mean_naive_errors(videos: MovingDigits) -> dict[str, float]:
    """Returns the means of ``naive_errors`` over all batches."""
    errors = [naive_errors(videos[step]) for step in range(len(videos))]
    return {name: float(np.mean([row[name] for row in errors])) for name in errors[0]}


def plot_video(video: Video, next_frames: np.ndarray, position: np.ndarray, path: Path) -> None:
    """Plots every second frame of the first video, its predicted and true next frame, and both positions.

    Args:
        video: a batch of videos.
        next_frames: predicted next frames of the first video, ``[T, FRAME_SIZE, FRAME_SIZE]``.
        position: predicted row and column in the first video, ``[T, 2]``.
        path: the image file to write.
    """
    from matplotlib.figure import Figure

    times = range(CONTEXT_FRAMES, NUM_FRAMES - 1, 2)
    figure = Figure(figsize=(1.25 * len(times), 4), layout="constrained")
    grid = figure.subplots(3, len(times))
    for column, t in zip(grid.T, times, strict=True):
        for axes, frame in zip(column, (video.frames[t, 0], next_frames[t], video.frames[t + 1, 0]), strict=True):
            axes.imshow(frame, cmap="Greys", vmin=0, vmax=1)
            axes.axvspan(SCREEN.start - 0.5, SCREEN.stop - 0.5, color="tab:blue", alpha=0.15)
            axes.set(xticks=[], yticks=[])
        column[0].plot(*video.position[t, 0][::-1], "+", color="tab:green", markersize=10, label="position")
        column[0].plot(*position[t][::-1], "x", color="tab:red", markersize=8, label="predicted position")
        column[0].set_title(f"frame {t}", fontsize="small")
    for axes, name in zip(grid[:, 0], ("observed", "predicted next", "next"), strict=True):
        axes.set_ylabel(name)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)
