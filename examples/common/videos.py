"""Makes videos of a digit that moves, bounces off the walls and passes behind a screen."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.digits import read_images, to_sequences

NUM_FRAMES = 20
FRAME_SIZE = 32
"""pixels of a side"""
DIGIT_SIZE = 14
SCREEN = slice(11, 21)
"""columns that the screen hides"""
CONTEXT_FRAMES = 5
"""frames that are given before anything is predicted"""


class Video(NamedTuple):
    """Frames of B videos and where the digits are."""

    frames: Any
    """``[T, B, FRAME_SIZE, FRAME_SIZE]``"""
    position: Any
    """of the digit's center, row and column, ``[T, B, 2]``"""
    hidden: Any
    """whether that is behind the screen, ``[T, B]``"""


class MovingDigits:
    """Batches of videos of digits ``[N, DIGIT_SIZE, DIGIT_SIZE]``, drawn anew for each step."""

    def __init__(self, digits: np.ndarray, batch_size: int, num_batches: int, seed: int) -> None:
        self.digits, self.batch_size, self.num_batches, self.seed = digits, batch_size, num_batches, seed

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> Video:
        rng = np.random.default_rng((self.seed, step))
        digits = self.digits[rng.integers(len(self.digits), size=self.batch_size)]
        room = FRAME_SIZE - DIGIT_SIZE
        start = rng.uniform(0, room, (self.batch_size, 2))
        angle, speed = rng.uniform(0, 2 * np.pi, self.batch_size), rng.uniform(1, 2.5, self.batch_size)
        velocity = speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        path = start + np.arange(NUM_FRAMES)[:, None, None] * velocity
        corner = room - np.abs(path % (2 * room) - room)  # reflected at the walls
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
    """Makes videos of the digits of the training or test part; without a folder, of scikit-learn's digits."""
    train, test = (to_sequences(images, "rows") for images in read_images(folder))
    if part == "train":
        train = train.split(len(train.y) * 9 // 10)[0]
    return MovingDigits(resize_digits((train if part == "train" else test).x), batch_size, num_batches, seed)


def resize_digits(images: np.ndarray) -> np.ndarray:
    """Brings images ``[N, 28, 28]`` to 14 x 14 by means of 2 x 2, and ``[N, 8, 8]`` by repetition, with a margin."""
    if images.shape[1] == 2 * DIGIT_SIZE:
        return images.reshape(-1, DIGIT_SIZE, 2, DIGIT_SIZE, 2).mean(axis=(2, 4))
    return np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)[:, 1:-1, 1:-1]


def naive_errors(video: Video) -> dict[str, float]:
    """Scores two predictions without a network.

    The next frame is a copy of the last one; the hidden digit continues evenly from its last two visible positions,
    which this baseline is told exactly, where a model has to infer them.
    """
    copy_error = float(np.mean((video.frames[CONTEXT_FRAMES:-1] - video.frames[CONTEXT_FRAMES + 1 :]) ** 2))
    distances = []
    for row in range(video.hidden.shape[1]):
        for t in np.flatnonzero(video.hidden[:, row]):
            visible = np.flatnonzero(~video.hidden[:t, row])
            if t < CONTEXT_FRAMES or len(visible) < 2:
                continue
            last, before = visible[-1], visible[-2]
            velocity = (video.position[last, row] - video.position[before, row]) / (last - before)
            guess = video.position[last, row] + (t - last) * velocity
            distances.append(np.linalg.norm(guess - video.position[t, row]))
    return {"frame, copied": copy_error, "hidden, going on evenly": float(np.mean(distances))}


def mean_naive_errors(videos: MovingDigits) -> dict[str, float]:
    """Returns the means of ``naive_errors`` over all batches."""
    errors = [naive_errors(videos[step]) for step in range(len(videos))]
    return {name: float(np.mean([row[name] for row in errors])) for name in errors[0]}


def plot_video(video: Video, next_frames: np.ndarray, position: np.ndarray, path: Path) -> None:
    """Draws every second frame of the first video, its predicted and true successor, and both positions."""
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
