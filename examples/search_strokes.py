"""Searches learning rate and dropout of a small LSTM by training 32 models at once, and again one after another.

    python examples/search_strokes.py                       # digits by rows of pixels, from scikit-learn
    python examples/search_strokes.py --data DIR            # pen strokes: a folder with pendigits.tra and pendigits.tes
    python examples/search_strokes.py --optuna 12           # also hidden size and layers, one program per shape

Expect the same best model both ways, an accuracy of about 97 % on the pen strokes (published: 97 to 98.5 %), and 32
models together to train two to three times as fast as one after another on two CPU cores: each core trains half of
them, and one call takes 50 steps of all. Pen strokes: https://archive.ics.uci.edu/dataset/81
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results
from common.baselines import nearest_neighbor_accuracy
from common.digits import NUM_DIGITS, Digits, read_pen_strokes
from common.members import print_members, train_separately
from common.options import Count, new_parser, parse, whole

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics
from lstm_jax.training.hyperparameters import MAX_STEPS_PER_CALL

MAX_GRADIENT_NORM = 1.0


class Settings(NamedTuple):
    """Settings of the models and their training; --set NAME=VALUE changes one."""

    members: Count = 32
    hidden: Count = 32
    batch_size: Count = 32
    steps: Count = 600  # of each member


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with pendigits.tra and pendigits.tes")
    parser.add_argument("--halve", action="store_true", help="only the better half continues after 1/4 and 1/2")
    parser.add_argument("--optuna", type=whole, metavar="TRIALS", help="searches hidden size and layers too")
    return parse(parser, arguments, __file__, Settings, smoke={"steps": MAX_STEPS_PER_CALL}, flags=("smoke", "record"))


def init_model(key: jax.Array, input_size: int, hidden: int, num_layers: int) -> Any:
    """Initializes LSTM layers and the kernel of a dense layer."""
    lstm_key, dense_key = jax.random.split(key)
    kernel = jax.random.normal(dense_key, (hidden, NUM_DIGITS)) * hidden**-0.5
    return {"lstm": lj.init_stack(lstm_key, input_size, hidden, num_layers), "dense": kernel}


def build(hyper: dict[str, Any]) -> tuple[Any, optax.GradientTransformation]:
    """Returns the loss and the optimizer of a member with the hyperparameters "rate" and "dropout"."""

    @training.stateless
    def loss(params: Any, batch: Digits, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        """Computes the loss of a batch and its metrics."""
        states, _ = lj.lstm_stack(params["lstm"], jnp.swapaxes(batch.x, 0, 1))
        h = states[-1].h
        h = h if key is None else lj.regularizers.dropout(key, h[None], hyper["dropout"])[0]
        logits = h @ params["dense"]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
        error = 1 - (jnp.argmax(logits, -1) == batch.y)
        return nats.mean(), {"loss": metrics.mean(nats), "error": metrics.mean(error)}

    return loss, optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(hyper["rate"]))


def whole_part(part: Digits) -> training.Shuffled:
    """Returns all rows as a single batch."""
    return training.Shuffled(part, len(part.y), shuffle=False)


def search_shape(num_trials: int, train: Digits, valid: Digits, options: argparse.Namespace) -> None:
    """Searches hidden size and number of layers with Optuna; each trial trains a population of learning rates."""
    import optuna

    def objective(trial: "optuna.Trial") -> float:
        """Returns the validation error of the trial's best member."""
        hidden = trial.suggest_categorical("hidden", [16, 32, 64])
        layers = trial.suggest_int("layers", 1, 2)
        init = partial(init_model, input_size=train.x.shape[-1], hidden=hidden, num_layers=layers)
        hypers = training.grid(rate=[3e-3, 1e-2, 3e-2, 1e-1], dropout=[0.1])
        population, key = training.Population(build, init), jax.random.key(trial.number)
        batches = training.Shuffled(train, options.batch_size)
        search = partial(training.search, steps=options.steps, metric="error", progress_bar=False)
        return search(population, key, hypers, batches, whole_part(valid)).best["error"]

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=num_trials)
    print(f"best of {num_trials} trials: {study.best_params}, {study.best_value:.2%} validation errors")


def main(arguments: list[str] | None = None) -> float:
    """Searches, compares and plots; returns the accuracy of the best member on the test part."""
    options = parse_options(arguments)
    train, valid, test = read_pen_strokes(options.data)
    batches, valid_batch = training.Shuffled(train, options.batch_size), whole_part(valid)
    sample = partial(training.sample_hyperparameters, rate=(1e-4, 3e-1, "log"), dropout=(0.0, 0.5))
    hypers = sample(options.seed, options.members)
    init = partial(init_model, input_size=train.x.shape[-1], hidden=options.hidden, num_layers=1)
    population, key = training.Population(build, init), jax.random.key(options.seed)
    untrained = population.init_state(key, hypers)
    population.evaluate(population.run(untrained, batches, 0, MAX_STEPS_PER_CALL), valid_batch)  # compiles
    start = time.perf_counter()
    halvings = (options.steps // 4, options.steps // 2) if options.halve else ()
    search = partial(training.search, steps=options.steps, metric="error", halvings=halvings)
    result = search(population, key, hypers, batches, valid_batch)
    seconds = time.perf_counter() - start
    print_members(result.table[:5], f"{len(valid.y)} validation digits")
    loss, _ = build({"rate": 0.0, "dropout": 0.0})
    accuracy = 1 - results.evaluate(loss, result.params, whole_part(test))["error"]
    print(f"best member on the test part: {accuracy:.2%} of {len(test.y)} right")
    print(f"{options.members} together on {jax.device_count()} devices: {seconds:.1f} s, compilation apart")
    training.plot_search(result.table, ("rate", "dropout"), options.picture, metric="error")
    if not options.halve:
        errors, total = train_separately(build, untrained, batches, valid_batch, options.steps)
        winner = "the same" if int(np.argmin(errors)) == result.best["member"] else "another"
        print(f"one after another: {total:.1f} s, {total / seconds:.1f} times as long, {winner} winner")
    if options.optuna:
        search_shape(options.optuna, train, valid, options)
    naive = {"nearest training digit": nearest_neighbor_accuracy(*train, *test)}
    results.record(options, params=result.params, seconds=seconds, measured={"accuracy": accuracy}, naive=naive)
    return accuracy


if __name__ == "__main__":
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault(  # before JAX looks for devices: one for each core, with one thread
        "XLA_FLAGS", f"--xla_force_host_platform_device_count={num_cores} --xla_cpu_multi_thread_eigen=false"
    )
    main()
