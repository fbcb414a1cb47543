"""Three flip-flops, and where their memory lies: an LSTM trained to hold three bits, taken apart.

    python examples/flip_flop.py                 # a minute or two
    python examples/flip_flop.py --load runs/flip_flop

Three inputs are 0 but for rare pulses of 1 or -1; each of three outputs is to be the sign of the last pulse on its
input (Sussillo and Barak 2013, Neural Computation 25). Eight states of memory need eight stable fixed points while no
pulse comes, with saddles between neighbours that a pulse has to pass. Both are searched for, shown along the widest
principal components of the state and counted.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import results, saved

import lstm_jax as lj
from lstm_jax import diagnostics, training
from lstm_jax.diagnostics import pictures
from lstm_jax.models.layers import DenseParams, dense, init_dense
from lstm_jax.training import metrics

EXAMPLE = "flip_flop"
BITS = 3
HIDDEN = 24
TIME = 64
PULSE = 0.1
"""chance of a pulse on each input at each step"""
BATCH = 64
STEPS = 3000
LEARNING_RATE = 1e-2
STARTS = 2048
NOISE = 0.5
SLOW = 1e-4
"""|F(s) - s| below which a point counts as fixed"""


class Params(NamedTuple):
    """Parameters of the model."""

    lstm: lj.LSTMParams
    head: DenseParams


class FlipFlops:
    """Pulses and what is to be held, each ``[T, B, 3]``; another draw for each step."""

    def __init__(self, seed: int, batch: int = BATCH, count: int = 1000) -> None:
        self.seed, self.batch, self.count = seed, batch, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng((self.seed, step))
        shape = TIME, self.batch, BITS
        pulses = np.where(draw.random(shape) < PULSE, draw.choice([-1.0, 1.0], shape), 0.0)
        pulses[0] = draw.choice([-1.0, 1.0], shape[1:])
        last = np.maximum.accumulate(np.where(pulses != 0, np.arange(TIME)[:, None, None], 0), axis=0)
        held = np.take_along_axis(pulses, last, axis=0)
        return pulses.astype(np.float32), held.astype(np.float32)


def init_model(key: jax.Array, hidden: int) -> Params:
    """One LSTM layer and a dense one."""
    first, second = jax.random.split(key)
    return Params(lj.init_params(first, BITS, hidden), init_dense(second, hidden, BITS))


@training.stateless
def loss_fn(params: Params, batch: Any, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """The squared error, and the share of the bits that are right."""
    pulses, held = batch
    outputs = dense(params.head, lj.lstm(params.lstm, pulses)[1])
    error = metrics.squared_error(outputs, held)
    return error.value(), {"loss": error, "right": metrics.mean(jnp.sign(outputs) == held)}


def search(params: Params, seed: int, starts: int) -> tuple[diagnostics.FixedPoints, lj.LSTMState]:
    """Fixed points without a pulse, from states of fresh trajectories and from between them; and the trajectories."""
    pulses, _ = FlipFlops(seed + 1)[0]
    draw = np.random.default_rng(seed)

    def noise(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(NOISE * draw.normal(size=(starts, leaf.shape[-1])), jnp.float32) * leaf.std(0, keepdims=True)

    seen = diagnostics.trace(params.lstm, pulses)
    visited = lj.LSTMState(seen["h"], seen["c"])
    rows = jax.tree.map(lambda leaf: leaf[TIME // 4 :].reshape(-1, leaf.shape[-1]), visited)
    one, other = draw.integers(0, len(rows.h), (2, starts))
    share = jnp.asarray(draw.choice([0.0, 0.25, 0.5], (starts, 1)), jnp.float32)
    between = jax.tree.map(lambda leaf: (1 - share) * leaf[one] + share * leaf[other] + noise(leaf), rows)
    found = diagnostics.fixed_points(params.lstm, jnp.zeros(BITS), between)
    return diagnostics.distinct_points(found, speed=SLOW, apart=0.1), visited


def report(params: Params, found: diagnostics.FixedPoints) -> tuple[int, int]:
    """Prints every point; how many memory states have a stable one, and how many points are saddles."""
    outputs = np.asarray(dense(params.head, found.states.h))
    print(f"{'growing directions':>18} {'largest |eigenvalue|':>21} {'|F(s) - s|':>11}   outputs")
    for output, unstable, eigenvalues, speed in zip(
        outputs, found.unstable, found.eigenvalues, found.speeds, strict=True
    ):
        shown = "  ".join(f"{value:5.2f}" for value in output)
        print(f"{int(unstable):18} {abs(eigenvalues[0]):21.3f} {float(speed):11.1e}   {shown}")
    stable = np.asarray(found.unstable) == 0
    return len({tuple(np.sign(row)) for row in outputs[stable]}), int((~stable).sum())


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units (%(default)s)")
    parser.add_argument("--steps", type=results.whole, default=STEPS, help="of training (%(default)s)")
    parser.add_argument("--starts", type=results.whole, default=STARTS, help="of the search (%(default)s)")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: search only")
    parser.add_argument("--picture", type=Path, default=Path("flip_flop.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.smoke:
        options.steps, options.hidden, options.starts = 3, 8, 16
    return options


def main(arguments: list[str] | None = None) -> tuple[int, int]:
    """Trains, searches, draws; returns how many memory states have a stable point, and the number of saddles."""
    options = parse_options(arguments)
    keys = jax.random.split(jax.random.key(options.seed))
    params, began = init_model(keys[0], options.hidden), time.monotonic()
    if options.load:
        params, _, _ = saved.load(options.load, EXAMPLE, init_model)
    else:
        params = training.fit(
            loss_fn,
            params,
            FlipFlops(10 + options.seed),
            training.adam(LEARNING_RATE),
            steps=options.steps,
            key=keys[1],
        ).params
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, params, {"sizes": {"hidden": options.hidden}})
    right = training.make_evaluate(loss_fn)(params, FlipFlops(5, count=10))["right"]
    found, visited = search(params, options.seed, options.starts)
    memories, saddles = report(params, found)
    print(f"\n{right:.2%} of the bits right; stable points at {memories} of {2**BITS} memory states; {saddles} saddles")
    if len(found.speeds):
        pictures.plot_fixed_points(found, visited, options.picture, title="Three flip-flops in an LSTM, no pulse")
    measured = {"bits right": right, "stable memories": memories, "saddles": saddles}
    results.record(options, params=params, seconds=seconds, measured=measured, naive={"chance": 0.5})
    return memories, saddles


if __name__ == "__main__":
    main()
