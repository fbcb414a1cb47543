"""Tests long-term memory over hundreds of steps: the adding problem and copying.

    python examples/remember.py                                  # adding at T = 200
    python examples/remember.py --time-lag 600 --set minutes=15
    python examples/remember.py --task copy --time-lag 100
    python examples/remember.py --set scheme=keras               # without chrono initialization

Adding (Hochreiter and Schmidhuber 1997): the input is T random numbers with marks on two of them, the target the sum of
the two; always predicting 1 gives a squared error of 0.167. Copying: the input is ten symbols, T - 1 blanks and a cue,
after which the model repeats the ten symbols; a model without memory has 10 ln 8 / (T + 20) nats per step. Chrono
initialization (Tallec and Ollivier 2018) samples forget biases so that the memory times of the units spread up to T.
Expect 0.00014 for adding at T = 200 and 0.005 at T = 600, after 13 and 15 minutes; a published LSTM of 130 units has
0.164 at T = 600 (Bai et al. 2018), as without memory.

The model that --save keeps, from Python in the folder examples:

    import remember
    model = remember.load("runs/adding")
    print(remember.evaluate(model, time_lag=400))
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from common import results, saved
from common.memory_tasks import NUM_COPIED, TASKS, naive_loss
from common.options import Count, Positive, new_parser, parse, whole

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, init_dense
from lstm_jax.training import metrics


class Settings(NamedTuple):
    """Settings of the model and its training; --set NAME=VALUE changes one."""

    hidden: Count = 128
    scheme: str = "chrono"  # initialization of the LSTM
    learning_rate: Positive = 2e-3
    batch_size: Count = 64
    steps: Count = 6000
    minutes: Positive | None = None


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--task", choices=tuple(TASKS), default="adding", help="(%(default)s)")
    parser.add_argument("--time-lag", type=whole, default=200, help="T (%(default)s)")
    options = parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 8, "time_lag": 10})
    if options.time_lag < 2:
        parser.error(f"--time-lag: got {options.time_lag}, want at least 2")
    return options


class Params(NamedTuple):
    """Parameters of the model."""

    lstm: lj.LSTMParams
    head: DenseParams


def init_model(key: jax.Array, task: str, hidden: int, scheme: str, time_lag: int) -> Params:
    """Initializes an LSTM layer and a dense layer for a task."""
    lstm_key, head_key = jax.random.split(key)
    max_time = time_lag if scheme == "chrono" else None
    lstm = lj.init_params(lstm_key, TASKS[task].input_size, hidden, scheme=scheme, max_time=max_time)
    return Params(lstm, init_dense(head_key, hidden, TASKS[task].output_size))


@training.stateless
def adding_loss(params: Params, batch: Any, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Computes the squared error of the sum, predicted from the final state."""
    xs, sums = batch
    state, _ = lj.lstm(params.lstm, xs)
    error = metrics.squared_error(dense(params.head, state.h)[:, 0], sums)
    return error.value(), {"loss": error}


@training.stateless
def copy_loss(params: Params, batch: Any, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Computes nats per step, blanks included as is usual, and the accuracy of the copied symbols as a metric."""
    xs, targets = batch
    logits = dense(params.head, lj.lstm(params.lstm, xs)[1])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    copied = metrics.accuracy(logits[-NUM_COPIED:], targets[-NUM_COPIED:])
    return nats.mean(), {"loss": metrics.mean(nats), "copied": copied}


LOSSES = {"adding": adding_loss, "copy": copy_loss}


def train(options: argparse.Namespace) -> training.FitResult:
    """Trains; the best parameters on separate validation batches are kept."""
    task, time_lag = options.task, options.time_lag
    keys = jax.random.split(jax.random.key(options.seed))
    return training.fit(
        LOSSES[task],
        init_model(keys[0], task, options.hidden, options.scheme, time_lag),
        TASKS[task](time_lag, options.batch_size, 1000, 10 + options.seed),
        training.adam(options.learning_rate, warmup=0.0),
        steps=options.steps,
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(TASKS[task](time_lag, 500, 2, 1), max(1, options.steps // 30)),
    )


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    return saved.load(folder, "remember", init_model)


def evaluate(model: saved.Model, time_lag: int) -> dict[str, float]:
    """Returns the metrics of a model on new batches; their time lag may differ from that of training."""
    task: str = model.notes["sizes"]["task"]
    return results.evaluate(LOSSES[task], model.params, TASKS[task](time_lag, 500, 10, 2))


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests and plots; returns the loss on new batches."""
    options = parse_options(arguments)
    naive, title = naive_loss(options.task, options.time_lag), f"{options.task}, T = {options.time_lag}"
    with results.Timer() as timer:
        if options.load:
            model, outcome = load(options.load), "not trained"
            if model.notes["sizes"]["task"] != options.task:
                raise SystemExit(f"--task: got {options.task}, want {model.notes['sizes']['task']}, as in --load")
        else:
            result = train(options)
            sizes = {name: getattr(options, name) for name in ("task", "hidden", "scheme", "time_lag")}
            outcome = f"{result.stop_reason}, step {result.state.step}"
            model = saved.Model(result.params, {"sizes": sizes})
            training.plot_curve(result.history, options.picture, title=title, lines={"naive": naive})
    saved.save(options.save, options.example, model)
    scores = evaluate(model, options.time_lag)
    print(f"\n{outcome}: {', '.join(f'{name} {value:.3g}' for name, value in scores.items())}; naive {naive:.3g}")
    record = partial(results.record, options, params=model.params, seconds=timer.seconds, notes=outcome)
    record(measured=scores, naive={"remembering nothing": naive})
    return scores["loss"]


if __name__ == "__main__":
    main()
