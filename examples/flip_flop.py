"""Finds the fixed points with which an LSTM stores three bits: the three-bit flip-flop task.

    python examples/flip_flop.py                           # a minute or two
    python examples/flip_flop.py --load runs/flip_flop     # searches only

Three inputs are 0 except for rare pulses of 1 or -1; the target of each output is the sign of the last pulse on its
input (Sussillo and Barak 2013, Neural Computation 25). Eight memory states require eight stable fixed points under zero
input, with saddles between neighbors that a pulse has to pass. The example finds both, counts them and plots them along
the first principal components of the state: expect 8 stable points and about 19 saddles. In Python, in the folder
examples:

    import flip_flop
    model = flip_flop.load("runs/flip_flop")
    print(flip_flop.run(model.params, flip_flop.FlipFlops(seed=5)[0][0][:, 0]).round())
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import results, saved
from common.flip_flops import NUM_BITS, NUM_STEPS, FlipFlops
from common.options import Count, new_parser, parse

import lstm_jax as lj
from lstm_jax import diagnostics, training
from lstm_jax.models.layers import DenseParams, dense, init_dense
from lstm_jax.training import metrics

LEARNING_RATE = 1e-2
NOISE_SCALE = 0.5
MAX_SPEED = 1e-4
"""|F(s) - s| below which a point counts as fixed."""


class Settings(NamedTuple):
    """Settings of the model, its training and the search; --set NAME=VALUE changes one."""

    hidden: Count = 24  # units
    steps: Count = 3000  # of training
    starts: Count = 2048  # of the search


class Params(NamedTuple):
    """Parameters of the model."""

    lstm: lj.LSTMParams
    head: DenseParams


def init_model(key: jax.Array, hidden: int) -> Params:
    """Initializes an LSTM layer and a dense layer."""
    lstm_key, head_key = jax.random.split(key)
    return Params(lj.init_params(lstm_key, NUM_BITS, hidden), init_dense(head_key, hidden, NUM_BITS))


def run(params: Params, pulses: Any) -> jax.Array:
    """Returns the outputs ``[T, B, 3]``, whose signs are the stored bits, for pulses ``[T, B, 3]``."""
    return dense(params.head, lj.lstm(params.lstm, pulses)[1])


@training.stateless
def loss_fn(params: Params, batch: Any, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Computes the squared error, and the share of right bits as a metric."""
    pulses, bits = batch
    outputs = run(params, pulses)
    error = metrics.squared_error(outputs, bits)
    return error.value(), {"loss": error, "right": metrics.mean(jnp.sign(outputs) == bits)}


def search(params: Params, seed: int, num_starts: int) -> tuple[diagnostics.FixedPoints, lj.LSTMState]:
    """Searches fixed points under zero input; the search starts at noisy interpolations of visited states.

    Args:
        params: parameters of the model.
        seed: seed of the starts and of the pulses.
        num_starts: number of starts.
    Returns:
        (points, visited): the distinct fixed points, and the states ``[T, B, H]`` of trajectories on new pulses.
    """
    pulses, _ = FlipFlops(seed + 1)[0]
    rng = np.random.default_rng(seed)

    def sample_noise(leaf: jax.Array) -> jax.Array:
        """Samples noise ``[num_starts, H]`` in proportion to the standard deviation of each unit."""
        normal = NOISE_SCALE * rng.normal(size=(num_starts, leaf.shape[-1]))
        return jnp.asarray(normal, jnp.float32) * leaf.std(0, keepdims=True)

    trace = diagnostics.trace(params.lstm, pulses)
    visited = lj.LSTMState(trace["h"], trace["c"])
    states = jax.tree.map(lambda leaf: leaf[NUM_STEPS // 4 :].reshape(-1, leaf.shape[-1]), visited)
    first, second = rng.integers(0, len(states.h), (2, num_starts))
    weight = jnp.asarray(rng.choice([0.0, 0.25, 0.5], (num_starts, 1)), jnp.float32)
    starts = jax.tree.map(lambda leaf: (1 - weight) * leaf[first] + weight * leaf[second] + sample_noise(leaf), states)
    points = diagnostics.fixed_points(params.lstm, jnp.zeros(NUM_BITS), starts)
    return diagnostics.distinct_points(points, max_speed=MAX_SPEED, min_distance=0.1), visited


def print_points(params: Params, points: diagnostics.FixedPoints) -> tuple[int, int]:
    """Prints the fixed points; returns the number of memory states with a stable point, and of saddles."""
    outputs = np.asarray(dense(params.head, points.states.h))
    print(f"{'growing directions':>18} {'largest |eigenvalue|':>21} {'|F(s) - s|':>11}   outputs")
    for output, unstable, values, speed in zip(
        outputs, points.num_unstable, points.eigenvalues, points.speeds, strict=True
    ):
        shown = "  ".join(f"{value:5.2f}" for value in output)
        print(f"{int(unstable):18} {abs(values[0]):21.3f} {float(speed):11.1e}   {shown}")
    stable = np.asarray(points.num_unstable) == 0
    return len({tuple(np.sign(row)) for row in outputs[stable]}), int((~stable).sum())


load = partial(saved.load, example="flip_flop", init=init_model)


def main(arguments: list[str] | None = None) -> tuple[int, int]:
    """Trains, searches and plots; returns the number of memory states with a stable point, and of saddles."""
    smoke = {"steps": 3, "hidden": 8, "starts": 16}
    options = parse(new_parser(__doc__), arguments, __file__, Settings, smoke=smoke)
    keys = jax.random.split(jax.random.key(options.seed))
    model = load(options.load) if options.load else None
    with results.Timer() as timer:
        if model is None:
            params, data = init_model(keys[0], options.hidden), FlipFlops(10 + options.seed)
            optimizer = training.adam(LEARNING_RATE)
            fitted = training.fit(loss_fn, params, data, optimizer, steps=options.steps, key=keys[1])
            model = saved.Model(fitted.params, {"sizes": {"hidden": options.hidden}})
    saved.save(options.save, options.example, model)
    right = results.evaluate(loss_fn, model.params, FlipFlops(5, count=10))["right"]
    points, visited = search(model.params, options.seed, options.starts)
    memories, saddles = print_points(model.params, points)
    print(f"\n{right:.2%} of the bits right; stable points at {memories} of 8 memory states; {saddles} saddles")
    if len(points.speeds):
        diagnostics.plots.plot_fixed_points(
            points, visited, options.picture, title="Three flip-flops in an LSTM, no pulse"
        )
    measured = {"bits right": right, "stable memories": memories, "saddles": saddles}
    results.record(options, model.params, timer.seconds, measured, {"chance": 0.5})
    return memories, saddles


if __name__ == "__main__":
    main()
