"""Searches learning rate and dropout of a small LSTM by training 32 of them at once, and again one after another.

    python examples/search_strokes.py                       # digits by rows of pixels, from scikit-learn
    python examples/search_strokes.py --data DIR            # pen strokes: a folder with pendigits.tra and pendigits.tes
    python examples/search_strokes.py --optuna 12           # hidden size and layers too, which need a program each

Expect the same winner both ways, about 97 % of the test digits right on the pen strokes (published: 97 to 98.5 %), and
32 models together two to three times as fast as one after another on two CPU cores: each core takes half of them, and
one call serves 50 steps of all. Pen strokes, lines of 16 coordinates and a digit: https://archive.ics.uci.edu/dataset/81
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
from tqdm import tqdm

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics
from lstm_jax.training.hyperparameters import STEPS_A_CALL

MEMBERS, HIDDEN, BATCH, STEPS, CLASSES = 32, 32, 32, 600, 10


class Digits(NamedTuple):
    """Sequences ``[N, T, D]`` and their digits ``[N]``."""

    x: np.ndarray
    y: np.ndarray


def read_strokes(path: Path) -> Digits:
    """Lines of numbers, the digit last; SystemExit with a message if they are not."""
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except OSError:
        raise SystemExit(f"--data: {path} is not a file") from None
    except ValueError as error:
        raise SystemExit(f"--data: {path}: want lines of 16 coordinates and a digit, got {error}") from None
    if table.shape[1:] != (17,) or not np.isin(table[:, 16], np.arange(CLASSES)).all():
        raise SystemExit(f"--data: {path}: got {table.shape[-1]} columns, want 16 coordinates and a digit from 0 to 9")
    return Digits(table[:, :16].reshape(-1, 8, 2) / 50 - 1, table[:, 16].astype(np.int32))


def read_data(folder: Path | None) -> tuple[Digits, Digits, Digits]:
    """Training, held-out and test part; the held-out part is the last fifth of the training part."""
    if folder is None:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        whole = Digits((x.reshape(-1, 8, 8) / 8 - 1).astype(np.float32), y.astype(np.int32))
        train, test = (Digits(whole.x[part], whole.y[part]) for part in (slice(1297), slice(1297, None)))
    else:
        train, test = read_strokes(folder / "pendigits.tra"), read_strokes(folder / "pendigits.tes")
    split = len(train.y) * 4 // 5
    return Digits(train.x[:split], train.y[:split]), Digits(train.x[split:], train.y[split:]), test


def draw(key: jax.Array, size: int, hidden: int, layers: int) -> Any:
    """The LSTM's and the last layer's parameters."""
    lstm_key, dense_key = jax.random.split(key)
    dense = jax.random.normal(dense_key, (hidden, CLASSES)) * hidden**-0.5
    return {"lstm": lj.init_stack(lstm_key, size, hidden, layers), "dense": dense}


def build(hyper: dict[str, Any]) -> tuple[training.step.Loss, optax.GradientTransformation]:
    """A member's loss and optimiser."""

    @training.stateless
    def loss(params: Any, batch: Digits, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        states, _ = lj.lstm_stack(params["lstm"], jnp.swapaxes(batch.x, 0, 1))
        h = states[-1].h
        h = h if key is None else lj.regularizers.step_dropout(key, h[None], hyper["dropout"])[0]
        logits = h @ params["dense"]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
        error = 1 - (jnp.argmax(logits, -1) == batch.y)
        return nats.mean(), {"loss": metrics.mean(nats), "error": metrics.mean(error)}

    return loss, optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hyper["rate"]))


def one_after_another(
    population: training.Population, batches: Any, held_out: Any, steps: int
) -> tuple[list[float], float]:
    """The same members by themselves: one step compiled for all of them, called member by member; and the seconds."""

    @partial(jax.jit, donate_argnums=1)
    def step(hyper: Any, state: training.TrainState, batch: Digits) -> tuple[training.TrainState, Any]:
        return training.make_train_step(*build(hyper))(state, batch)

    @jax.jit
    def look(hyper: Any, params: Any, batch: Digits) -> jax.Array:
        return build(hyper)[0](params, None, batch, None)[1][1]["error"].value()

    errors = []
    began = time.perf_counter()
    for place in tqdm(population.numbers, unit="member", dynamic_ncols=True):
        hyper, state = jax.tree.map(lambda leaf, place=place: leaf[place], (population.hypers, population.states))
        for number in range(steps):
            state, _ = step(hyper, state, batches[number])
        errors.append(float(look(hyper, state.params, held_out[0])))
        began = time.perf_counter() if place == 0 else began  # the first one compiles
    return errors, (time.perf_counter() - began) * MEMBERS / (MEMBERS - 1)


def by_optuna(trials: int, train: Digits, held_out: Digits, steps: int) -> None:
    """Hidden size and layers, each trial a population of its own that tries learning rates."""
    import optuna

    def objective(trial: "optuna.Trial") -> float:
        hidden, layers = trial.suggest_categorical("hidden", [16, 32, 64]), trial.suggest_int("layers", 1, 2)
        population = training.Population(
            build,
            partial(draw, size=train.x.shape[-1], hidden=hidden, layers=layers),
            training.grid(rate=[3e-3, 1e-2, 3e-2, 1e-1], dropout=[0.1]),
            jax.random.key(trial.number),
        )
        found = training.search(
            population,
            training.Shuffled(train, BATCH),
            _whole(held_out),
            steps=steps,
            metric="error",
            progress_bar=False,
        )
        return found.best["error"]

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    print(f"best of {trials} trials: {study.best_params}, {study.best_value:.2%} held-out errors")


def _whole(part: Digits) -> training.Shuffled:
    return training.Shuffled(part, len(part.y), shuffle=False)


def main(arguments: list[str] | None = None) -> None:
    """Searches, compares, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with pendigits.tra and pendigits.tes")
    parser.add_argument("--steps", type=results.whole, default=STEPS, help="of every member (%(default)s)")
    parser.add_argument("--halve", action="store_true", help="after a quarter and a half only the better half goes on")
    parser.add_argument("--optuna", type=int, default=0, metavar="TRIALS", help="search the shape too")
    parser.add_argument("--picture", type=Path, default=Path("search_strokes.png"), help="(%(default)s)")
    from sklearn.neighbors import KNeighborsClassifier

    options = results.parse(parser, arguments, __file__, saves=False)
    if options.smoke:
        options.steps = STEPS_A_CALL
    train, held_out, test = read_data(options.data)
    batches = training.Shuffled(train, BATCH)
    hypers = training.sample_hyperparameters(options.seed, MEMBERS, rate=(1e-4, 3e-1, "log"), dropout=(0.0, 0.5))
    drawing = partial(draw, size=train.x.shape[-1], hidden=HIDDEN, layers=1)
    population, same = (training.Population(build, drawing, hypers, jax.random.key(options.seed)) for _ in range(2))
    halvings = (options.steps // 4, options.steps // 2) if options.halve else ()
    start = population.states
    population.run(batches, 0, STEPS_A_CALL)  # compiles
    population.evaluate(_whole(held_out))
    population.states, began = start, time.perf_counter()
    found = training.search(
        population, batches, _whole(held_out), steps=options.steps, metric="error", halvings=halvings
    )
    together = time.perf_counter() - began
    print(f"{'member':>6} {'rate':>9} {'dropout':>8} {'error':>7}   of {len(held_out.y)} held-out digits")
    for row in found.table[:5]:
        print(f"{row['member']:6.0f} {row['rate']:9.5f} {row['dropout']:8.2f} {row['error']:7.2%}")
    evaluate = training.make_evaluate(build({"rate": 0.0, "dropout": 0.0})[0])
    right = 1 - evaluate(found.params, _whole(test))["error"]
    print(f"best member on the test part: {right:.2%} of {len(test.y)} right")
    print(f"{MEMBERS} together on {jax.device_count()} devices: {together:.1f} s, compilation apart")
    nearest = KNeighborsClassifier(1).fit(train.x.reshape(len(train.y), -1), train.y)
    results.record(
        options,
        params=found.params,
        seconds=together,
        measured={"accuracy": right},
        naive={"nearest training digit": float(nearest.score(test.x.reshape(len(test.y), -1), test.y))},
    )
    training.plot_search(found.table, ("rate", "dropout"), options.picture, metric="error")
    if not options.halve:
        errors, alone = one_after_another(same, batches, _whole(held_out), options.steps)
        winner = "the same" if int(np.argmin(errors)) == found.best["member"] else "another"
        print(f"one after another: {alone:.1f} s, {alone / together:.1f} times as long, {winner} winner")
    if options.optuna:
        by_optuna(options.optuna, train, held_out, options.steps)


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault(  # before JAX looks for devices: one for each core, with one thread
        "XLA_FLAGS", f"--xla_force_host_platform_device_count={cores} --xla_cpu_multi_thread_eigen=false"
    )
    main()
