"""Watches video: a digit that moves and bounces, behind a screen for a while; its next frame, and where it is.

    python examples/watch_digits.py                         # scikit-learn's digits
    python examples/watch_digits.py --data DIR              # MNIST's four files

Frames of 32 x 32 points are made from still digits of 14 x 14: each starts anywhere, moves evenly and bounces off the
walls; a screen hides the middle third. A convolutional LSTM (Shi et al. 2015) reads frame after frame, draws the next
one, and says where the digit is, by the mean of a map of where it may be. Its squared error stands beside that of
copying the last frame, its place behind the screen beside going on as last seen. Expect 0.46 of the copy's error after
half an hour, and places 2.1 points off behind the screen; going on evenly from the two exact places before, which no
model is told, is 1.75 off.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import read_digits
from common import results, saved

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, init_dense
from lstm_jax.training import metrics

EXAMPLE = "watch_digits"
HIDDEN = 24
BATCH = 16
STEPS = 1500
LEARNING_RATE = 3e-3
FRAMES, SIZE, DIGIT = 20, 32, 14
SCREEN = slice(11, 21)
"""columns that are hidden"""
LOOKED_AT = 5
"""frames before which nothing is asked for"""


class Params(NamedTuple):
    """Parameters of the model."""

    lstm: Any
    """of the cell "conv_2d", over maps of frames by patches of 2 x 2"""
    frame: DenseParams
    """``[H, 4]``, the next frame's patch"""
    place: DenseParams
    """``[H, 1]``, how likely the digit's middle is here"""


class Video(NamedTuple):
    """Frames and what is behind them."""

    seen: Any
    """``[T, B, SIZE, SIZE]``"""
    place: Any
    """of the digit's middle, row and column, ``[T, B, 2]``"""
    hidden: Any
    """whether that is behind the screen, ``[T, B]``"""


class Videos:
    """Another draw for each step."""

    def __init__(self, digits: np.ndarray, batch: int, count: int, seed: int) -> None:
        self.digits, self.batch, self.count, self.seed = digits, batch, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Video:
        draw = np.random.default_rng((self.seed, step))
        digits = self.digits[draw.integers(len(self.digits), size=self.batch)]
        room = SIZE - DIGIT
        start = draw.uniform(0, room, (self.batch, 2))
        angle, speed = draw.uniform(0, 2 * np.pi, self.batch), draw.uniform(1, 2.5, self.batch)
        moves = speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        way = start + np.arange(FRAMES)[:, None, None] * moves
        corner = room - np.abs(way % (2 * room) - room)  # bounced off the walls
        seen = np.zeros((FRAMES, self.batch, SIZE, SIZE), np.float32)
        for t, row in np.ndindex(FRAMES, self.batch):
            y, x = np.round(corner[t, row]).astype(int)
            seen[t, row, y : y + DIGIT, x : x + DIGIT] = digits[row]
        seen[..., SCREEN] = 0
        middle = corner + (DIGIT - 1) / 2
        hidden = np.abs(middle[..., 1] - (SCREEN.start + SCREEN.stop - 1) / 2) < 3
        return Video(seen, middle.astype(np.float32), hidden)


def read_digit_images(folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and test digits ``[N, 14, 14]`` from 0 to 1."""
    options = argparse.Namespace(data=folder, order="rows")
    train, _, test = read_digits.read_data(options)
    return smaller(train.x), smaller(test.x)


def smaller(images: np.ndarray) -> np.ndarray:
    """28 x 28 by means of 2 x 2; 8 x 8 by repetition, with a margin."""
    if images.shape[1] == 2 * DIGIT:
        return images.reshape(-1, DIGIT, 2, DIGIT, 2).mean(axis=(2, 4))
    wide = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
    return wide[:, 1:-1, 1:-1]


def init_model(key: jax.Array, hidden: int) -> Params:
    """One convolutional LSTM with windows of 5 x 5, and dense layers at each place."""
    keys = jax.random.split(key, 3)
    cell = lj.cells.CELLS["conv_2d"].init(keys[0], 4, hidden, window=(5, 5))
    return Params(cell, init_dense(keys[1], hidden, 4), init_dense(keys[2], hidden, 1))


def watch(params: Params, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(the next frame after each ``[T, B, SIZE, SIZE]``, the place in each ``[T, B, 2]``)."""
    half = SIZE // 2
    patches = seen.reshape(*seen.shape[:2], half, 2, half, 2).swapaxes(3, 4).reshape(*seen.shape[:2], half, half, 4)
    _, ys = lj.unroll(lj.cells.CELLS["conv_2d"], params.lstm, patches)
    drawn = dense(params.frame, ys).reshape(*seen.shape[:2], half, half, 2, 2).swapaxes(3, 4).reshape(seen.shape)
    chances = jax.nn.softmax(dense(params.place, ys).reshape(*seen.shape[:2], half * half))
    points = 2 * jnp.stack(jnp.divmod(jnp.arange(half * half), half), axis=-1) + 0.5
    return drawn, chances @ points.astype(chances.dtype)


@training.stateless
def loss_fn(params: Params, video: Video, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Squared errors of the next frame, and of the place in units of the picture."""
    drawn, place = watch(params, video.seen)
    frame = metrics.squared_error(drawn[LOOKED_AT:-1], video.seen[LOOKED_AT + 1 :])
    off = metrics.squared_error(place[LOOKED_AT:] / SIZE, video.place[LOOKED_AT:] / SIZE)
    distance = jnp.linalg.norm(place - video.place, axis=-1)[LOOKED_AT:]
    measured = {
        "frame": frame,
        "place": metrics.mean(distance),
        "hidden": metrics.mean(distance, jnp.asarray(video.hidden)[LOOKED_AT:]),
    }
    loss = 10 * frame.value() + off.value()
    return loss, measured


def naive_scores(video: Video) -> dict[str, float]:
    """Of copying the last frame, and of going on evenly from the last two places that were not hidden.

    The latter is told those two places exactly, where the model has to see them.
    """
    copied = float(np.mean((video.seen[LOOKED_AT:-1] - video.seen[LOOKED_AT + 1 :]) ** 2))
    errors = []
    for row in range(video.hidden.shape[1]):
        for t in np.flatnonzero(video.hidden[:, row]):
            known = np.flatnonzero(~video.hidden[:t, row])
            if t < LOOKED_AT or len(known) < 2:
                continue
            last, before = known[-1], known[-2]
            speed = (video.place[last, row] - video.place[before, row]) / (last - before)
            guess = video.place[last, row] + (t - last) * speed
            errors.append(np.linalg.norm(guess - video.place[t, row]))
    return {"frame, copied": copied, "hidden, going on evenly": float(np.mean(errors))}


def draw_video(params: Params, video: Video, path: Path) -> None:
    """A picture: every second frame, the next one as drawn by the model and as it came, and both places."""
    from matplotlib.figure import Figure

    drawn, place = (np.asarray(part[:, 0]) for part in watch(params, video.seen))
    shown = range(LOOKED_AT, FRAMES - 1, 2)
    figure = Figure(figsize=(1.25 * len(shown), 4), layout="constrained")
    grid = figure.subplots(3, len(shown))
    for axes, t in zip(grid.T, shown, strict=True):
        for one, frame in zip(axes, (video.seen[t, 0], drawn[t], video.seen[t + 1, 0]), strict=True):
            one.imshow(frame, cmap="Greys", vmin=0, vmax=1)
            one.axvspan(SCREEN.start - 0.5, SCREEN.stop - 0.5, color="tab:blue", alpha=0.15)
            one.set(xticks=[], yticks=[])
        axes[0].plot(*video.place[t, 0][::-1], "+", color="tab:green", markersize=10, label="is")
        axes[0].plot(*place[t][::-1], "x", color="tab:red", markersize=8, label="said to be")
        axes[0].set_title(f"frame {t}", fontsize="small")
    for one, name in zip(grid[:, 0], ("seen", "drawn next", "came next"), strict=True):
        one.set_ylabel(name)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with MNIST's files (default: scikit-learn's digits)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units at each place (%(default)s)")
    parser.add_argument("--steps", type=results.whole, default=STEPS, help="of training, at most (%(default)s)")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: test only")
    parser.add_argument("--picture", type=Path, default=Path("watch_digits.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.smoke:
        options.steps, options.hidden = 2, 4
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests, draws; returns the ratio of the squared error to that of copying the last frame."""
    options = parse_options(arguments)
    train, test = read_digit_images(options.data)
    keys = jax.random.split(jax.random.key(options.seed))
    params = init_model(keys[0], options.hidden)
    began = time.monotonic()
    if options.load:
        params, _, _ = saved.load(options.load, EXAMPLE, init_model)
    else:
        fitted = training.fit(
            loss_fn,
            params,
            Videos(train, BATCH, 1000, 10 + options.seed),
            training.adam(LEARNING_RATE),
            steps=options.steps,
            key=keys[1],
            minutes=options.minutes,
            validation=training.Validation(Videos(train, 50, 2, 1), max(1, options.steps // 10)),
        )
        params = fitted.params
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, params, {"sizes": {"hidden": options.hidden}})
    tests = Videos(test, 50, 2 if options.smoke else 10, 2)
    found = training.make_evaluate(loss_fn)(params, tests)
    each = [naive_scores(tests[number]) for number in range(len(tests))]
    naive = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    ratio = found["frame"] / naive["frame, copied"]
    print(f"\nnext frame: squared error {found['frame']:.4f}, {ratio:.2f} of that of copying the last one")
    print(
        f"place: off by {found['place']:.2f} points, behind the screen by {found['hidden']:.2f}; going on evenly by "
        f"{naive['hidden, going on evenly']:.2f}"
    )
    draw_video(params, tests[0], options.picture)
    measured = {"frame error, of copying": ratio, "hidden place": found["hidden"], "place": found["place"]}
    results.record(options, params=params, seconds=seconds, measured=measured, naive=naive)
    return ratio


if __name__ == "__main__":
    main()
