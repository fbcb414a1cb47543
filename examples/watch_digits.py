"""Predicts the next frame of a video and the position of a digit that moves, bounces and passes behind a screen.

    python examples/watch_digits.py                         # scikit-learn's digits
    python examples/watch_digits.py --data DIR              # MNIST's four files

Frames of 32 x 32 pixels show images of 14 x 14: each digit starts anywhere, moves at constant speed and bounces off the
walls; a screen hides the middle third. A convolutional LSTM (Shi et al. 2015) reads the frames, predicts each next one,
and locates the digit by the mean of a probability map. The baseline of the frame is a copy of the last one, that of the
position behind the screen an extrapolation of the last two visible positions. Expect 0.46 of the copy's squared error
after half an hour, and positions off by 2.1 pixels behind the screen; the extrapolation, which is given the exact
positions, is off by 1.75.

The model that --save keeps, from Python in the folder examples:

    import watch_digits
    model = watch_digits.load("runs/video")
    print(watch_digits.predict(model, watch_digits.make_videos(num_batches=1)[0].frames)[1][-1, 0])
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import results, saved
from common.options import Count, Positive, new_parser, parse
from common.videos import CONTEXT_FRAMES, FRAME_SIZE, Video, make_videos, mean_naive_errors, plot_video

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, init_dense
from lstm_jax.training import metrics

PATCH_SIZE = 2
MAP_SIZE = FRAME_SIZE // PATCH_SIZE
"""height and width of the LSTM's maps, in patches"""


class Settings(NamedTuple):
    """Settings of the model and its training; --set NAME=VALUE changes one."""

    hidden: Count = 24
    """channels of the LSTM"""
    learning_rate: Positive = 3e-3
    batch_size: Count = 16
    steps: Count = 1500
    minutes: Positive | None = None


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with MNIST's files (default: scikit-learn's digits)")
    return parse(parser, arguments, __file__, Settings, smoke={"steps": 2, "hidden": 4})


class Params(NamedTuple):
    """Parameters of the model."""

    lstm: Any
    """parameters of the cell "conv_2d", over maps of patches of 2 x 2 pixels"""
    frame: DenseParams
    """``[H, 4]``, gives a patch of the next frame"""
    position: DenseParams
    """``[H, 1]``, gives the logit of a patch containing the digit's center"""


def init_model(key: jax.Array, hidden: int) -> Params:
    """Initializes a convolutional LSTM with kernels of 5 x 5, and dense layers that apply to each patch."""
    keys = jax.random.split(key, 3)
    lstm = lj.cells.CELLS["conv_2d"].init(keys[0], PATCH_SIZE**2, hidden, kernel_size=(5, 5))
    return Params(lstm, init_dense(keys[1], hidden, PATCH_SIZE**2), init_dense(keys[2], hidden, 1))


def apply_model(params: Params, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the predicted next frame ``[T, B, 32, 32]`` and the position ``[T, B, 2]`` for each frame."""
    batch = frames.shape[:2]
    patches = frames.reshape(*batch, MAP_SIZE, PATCH_SIZE, MAP_SIZE, PATCH_SIZE).swapaxes(3, 4)
    _, ys = lj.unroll(lj.cells.CELLS["conv_2d"], params.lstm, patches.reshape(*batch, MAP_SIZE, MAP_SIZE, -1))
    patches = dense(params.frame, ys).reshape(*batch, MAP_SIZE, MAP_SIZE, PATCH_SIZE, PATCH_SIZE)
    next_frames = patches.swapaxes(3, 4).reshape(frames.shape)
    probabilities = jax.nn.softmax(dense(params.position, ys).reshape(*batch, MAP_SIZE**2))
    centers = PATCH_SIZE * jnp.stack(jnp.divmod(jnp.arange(MAP_SIZE**2), MAP_SIZE), axis=-1) + 0.5
    return next_frames, probabilities @ centers.astype(probabilities.dtype)


@training.stateless
def loss_fn(params: Params, video: Video, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Computes the squared errors of the next frame, and of the position relative to the size of a frame."""
    next_frames, position = apply_model(params, video.frames)
    frame_error = metrics.squared_error(next_frames[CONTEXT_FRAMES:-1], video.frames[CONTEXT_FRAMES + 1 :])
    relative_position, relative_target = position / FRAME_SIZE, video.position / FRAME_SIZE
    position_error = metrics.squared_error(relative_position[CONTEXT_FRAMES:], relative_target[CONTEXT_FRAMES:])
    distance = jnp.linalg.norm(position - video.position, axis=-1)[CONTEXT_FRAMES:]
    hidden = jnp.asarray(video.hidden)[CONTEXT_FRAMES:]
    measured = {"frame": frame_error, "place": metrics.mean(distance), "hidden": metrics.mean(distance, hidden)}
    return 10 * frame_error.value() + position_error.value(), measured


def train(options: argparse.Namespace) -> training.FitResult:
    """Trains; the best parameters on separate validation videos are kept."""
    keys = jax.random.split(jax.random.key(options.seed))
    return training.fit(
        loss_fn,
        init_model(keys[0], options.hidden),
        make_videos(options.data, "train", options.batch_size, 1000, 10 + options.seed),
        training.adam(options.learning_rate),
        steps=options.steps,
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(make_videos(options.data, "train", 50, 2, 1), max(1, options.steps // 10)),
    )


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    return saved.load(folder, "watch_digits", init_model)


def predict(model: saved.Model, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predicted next frames ``[T, B, 32, 32]``, and row and column of each digit ``[T, B, 2]``."""
    next_frames, position = apply_model(model.params, jnp.asarray(frames))
    return np.asarray(next_frames), np.asarray(position)


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests and plots; returns the squared error of the next frame relative to copying the last one."""
    options = parse_options(arguments)
    with results.Timer() as timer:
        notes = {"sizes": {"hidden": options.hidden}}
        model = load(options.load) if options.load else saved.Model(train(options).params, notes)
    saved.save(options.save, options.example, model)
    tests = make_videos(options.data, num_batches=2 if options.smoke else 10)
    scores, naive = results.evaluate(loss_fn, model.params, tests), mean_naive_errors(tests)
    ratio = scores["frame"] / naive["frame, copied"]
    print(f"\nnext frame: squared error {scores['frame']:.4f}, {ratio:.2f} of that of copying the last one")
    print(f"position: off by {scores['place']:.2f} pixels, behind the screen by {scores['hidden']:.2f}")
    print(f"continuing evenly: off by {naive['hidden, going on evenly']:.2f} behind the screen")
    next_frames, position = predict(model, tests[0].frames)
    plot_video(tests[0], next_frames[:, 0], position[:, 0], options.picture)
    measured = {"frame error, of copying": ratio, "hidden place": scores["hidden"], "place": scores["place"]}
    results.record(options, params=model.params, seconds=timer.seconds, measured=measured, naive=naive)
    return ratio


if __name__ == "__main__":
    main()
