"""Remembers over hundreds of steps: the adding problem, and copying.

    python examples/remember.py                                  # adding at T = 200
    python examples/remember.py --steps-between 600 --minutes 15
    python examples/remember.py --task copy --steps-between 100
    python examples/remember.py --scheme keras                   # without chrono initialisation

Adding (Hochreiter and Schmidhuber 1997): T random numbers and marks at two places; the sum of the two marked ones is
asked for, and saying 1 always gives a squared error of 0.167. Copying: ten symbols, T - 1 blanks, then the ten symbols
are asked for; remembering nothing gives 10 ln 8 / (T + 20) nats a step. Chrono initialisation (Tallec and Ollivier
2018) draws forget biases so that the memory times of the units spread up to T. Expect 0.00014 for adding at T = 200
and 0.005 at T = 600, after 13 and 15 minutes; at T = 600 an LSTM of 130 units is published at 0.164 (Bai et al. 2018):
it has learned nothing.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from common import results, saved

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, init_dense
from lstm_jax.training import metrics

EXAMPLE = "remember"
HIDDEN = 128
BATCH = 64
STEPS = 6000
LEARNING_RATE = 2e-3
BETWEEN = 200
SYMBOLS, COPIED = 8, 10
PATIENCE = 10


class Params(NamedTuple):
    """Parameters of the model."""

    lstm: lj.LSTMParams
    head: DenseParams


class Adding:
    """Numbers and marks ``[T, B, 2]``, and sums ``[B]``; another draw for each step."""

    inputs, outputs = 2, 1

    def __init__(self, steps: int, batch: int, count: int, seed: int) -> None:
        self.steps, self.batch, self.count, self.seed = steps, batch, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng((self.seed, step))
        numbers = draw.random((self.steps, self.batch), np.float32)
        places = np.argsort(draw.random((self.steps, self.batch)), axis=0)[:2]
        marks = np.zeros_like(numbers)
        np.put_along_axis(marks, places, 1, axis=0)
        return np.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=0)


class Copying:
    """One-hot symbols ``[T + 20, B, 10]`` and what is asked for ``[T + 20, B]``; another draw for each step."""

    inputs = outputs = SYMBOLS + 2

    def __init__(self, steps: int, batch: int, count: int, seed: int) -> None:
        self.steps, self.batch, self.count, self.seed = steps, batch, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        symbols = np.random.default_rng((self.seed, step)).integers(1, SYMBOLS + 1, (COPIED, self.batch))
        blanks = np.zeros((self.steps - 1, self.batch), symbols.dtype)
        asks = np.full((COPIED + 1, self.batch), SYMBOLS + 1)
        read = np.concatenate([symbols, blanks, asks])
        wanted = np.concatenate([np.zeros((self.steps + COPIED, self.batch), symbols.dtype), symbols])
        return np.eye(SYMBOLS + 2, dtype=np.float32)[read], wanted.astype(np.int32)


TASKS: dict[str, Any] = {"adding": Adding, "copy": Copying}


def init_model(key: jax.Array, task: str, hidden: int, scheme: str, steps: int) -> Params:
    """One LSTM layer and a dense one."""
    first, second = jax.random.split(key)
    most = steps if scheme == "chrono" else None
    kind = TASKS[task]
    return Params(
        lj.init_params(first, kind.inputs, hidden, scheme=scheme, max_time=most),
        init_dense(second, hidden, kind.outputs),
    )


@training.stateless
def adding_loss(params: Params, batch: Any, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """The squared error of the sum, from the last state."""
    xs, sums = batch
    state, _ = lj.lstm(params.lstm, xs)
    error = metrics.squared_error(dense(params.head, state.h)[:, 0], sums)
    return error.value(), {"loss": error}


@training.stateless
def copy_loss(params: Params, batch: Any, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Nats a step, blanks included as is usual; and the share of the copied symbols that are right."""
    xs, wanted = batch
    _, ys = lj.lstm(params.lstm, xs)
    logits = dense(params.head, ys)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, wanted)
    right = metrics.accuracy(logits[-COPIED:], wanted[-COPIED:])
    return nats.mean(), {"loss": metrics.mean(nats), "copied": right}


LOSSES = {"adding": adding_loss, "copy": copy_loss}


def naive_loss(task: str, steps: int) -> float:
    """Of remembering nothing: 1 always, or any symbol."""
    return 1 / 6 if task == "adding" else COPIED * math.log(SYMBOLS) / (steps + 2 * COPIED)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(TASKS), default="adding", help="(%(default)s)")
    parser.add_argument("--steps-between", type=results.whole, default=BETWEEN, help="T (%(default)s)")
    parser.add_argument("--scheme", default="chrono", help="of the initial weights (%(default)s)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units (%(default)s)")
    parser.add_argument("--steps", type=results.whole, default=STEPS, help="of training, at most (%(default)s)")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: test only")
    parser.add_argument("--picture", type=Path, default=Path("remember.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.steps_between < 2:
        parser.error(f"--steps-between: got {options.steps_between}, want at least 2")
    if options.smoke:
        options.steps, options.hidden, options.steps_between = 3, 8, 10
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests, draws; returns the loss on fresh draws."""
    options = parse_options(arguments)
    steps, task = options.steps_between, options.task
    keys = jax.random.split(jax.random.key(options.seed))
    params = init_model(keys[0], task, options.hidden, options.scheme, steps)
    history, ended, began = [], "not trained", time.monotonic()
    if options.load:
        params, notes, _ = saved.load(options.load, EXAMPLE, init_model)
        if notes["sizes"]["task"] != task:
            raise SystemExit(f"--task: got {task}, want {notes['sizes']['task']}, as in --load")
    else:
        fitted = training.fit(
            LOSSES[task],
            params,
            TASKS[task](steps, BATCH, 1000, 10 + options.seed),
            training.adam(LEARNING_RATE, warmup=0.0),
            steps=options.steps,
            key=keys[1],
            minutes=options.minutes,
            validation=training.Validation(TASKS[task](steps, 500, 2, 1), max(1, options.steps // 30)),
        )
        params, history, ended = fitted.params, fitted.history, f"{fitted.ended}, step {int(fitted.state.step)}"
    seconds = time.monotonic() - began
    if options.save:
        sizes = {"task": task, "hidden": options.hidden, "scheme": options.scheme, "steps": steps}
        saved.save(options.save, EXAMPLE, params, {"sizes": sizes})
    found = training.make_evaluate(LOSSES[task])(params, TASKS[task](steps, 500, 10, 2))
    naive = naive_loss(task, steps)
    measured = dict(found)
    print(
        f"\n{ended}: " + ", ".join(f"{name} {value:.3g}" for name, value in measured.items()) + f"; naive {naive:.3g}"
    )
    if history:
        training.plot_curve(history, options.picture, title=f"{task}, T = {steps}", lines={"naive": naive})
    results.record(
        options, params=params, seconds=seconds, measured=measured, naive={"remembering nothing": naive}, notes=ended
    )
    return measured["loss"]


if __name__ == "__main__":
    main()
