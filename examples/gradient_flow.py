"""Plots how much of a gradient reaches the first of 500 steps in a simple network, a GRU and LSTMs.

    python examples/gradient_flow.py
    python examples/gradient_flow.py --set time=2000 hidden=64

Untrained layers of one size read the same random sequences; the loss is the sum of the last output. The gradient of a
simple network vanishes (Hochreiter 1991; Bengio, Simard and Frasconi 1994); that of an LSTM persists while its forget
gates stay open, which depends on their biases: 1 is usual (Gers et al. 2000), chrono initialization samples them for
memories up to T (Tallec and Ollivier 2018). Expect these ratios of the gradient norm at the first step to that at the
last: simple network 1e-72, GRU 3e-81, LSTM with forget bias 1 7e-29, LSTM with chrono biases 0.18.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common.options import Count, new_parser, parse

import lstm_jax as lj
from lstm_jax import diagnostics
from lstm_jax.cells import CELLS

INPUT_SIZE = 8
NUM_SEQUENCES = 8
"""sequences over which a norm is taken"""
NETWORKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "simple network": ("simple", {}),
    "GRU": ("gru", {}),
    "LSTM, forget bias 1": ("lstm", {}),
    "LSTM, chrono biases": ("lstm", {"scheme": "chrono"}),
}


class Settings(NamedTuple):
    """Settings of the sequences and layers; --set NAME=VALUE changes one."""

    time: Count = 500  # steps T
    hidden: Count = 32  # units


def gradient_norms(name: str, scheme: Mapping[str, Any], time: int, hidden: int, seed: int) -> np.ndarray:
    """Computes the norm of the gradient of each step's state in float64, since it is below float32's range.

    Args:
        name: the cell, a key of CELLS.
        scheme: keyword arguments of the cell's ``init``.
        time: number of steps T.
        hidden: number of units.
        seed: seed of sequences and parameters.
    Returns:
        Norms ``[T]``.
    """
    keys = jax.random.split(jax.random.key(seed))
    xs = jax.random.normal(keys[0], (time, NUM_SEQUENCES, INPUT_SIZE), jnp.float64)
    scheme = {**scheme, "max_time": time} if scheme.get("scheme") == "chrono" else scheme
    params = CELLS[name].init(keys[1], INPUT_SIZE, hidden, dtype=jnp.dtype("float64"), **scheme)

    def loss(final: lj.LSTMState, ys: jax.Array) -> jax.Array:
        """Returns the sum of the last output."""
        return ys[-1].sum()

    gradients = diagnostics.state_gradients(loss, params, xs, cell=CELLS[name])
    return np.sqrt(sum(np.square(leaf).sum(axis=(1, 2)) for leaf in jax.tree.leaves(gradients)))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Computes, prints and plots gradient norms; returns the ratio of first to last step by network."""
    options = parse(new_parser(__doc__), arguments, __file__, Settings, flags=())
    with jax.enable_x64(True):
        norms = {
            title: gradient_norms(name, scheme, options.time, options.hidden, options.seed)
            for title, (name, scheme) in NETWORKS.items()
        }
    ratios = {title: float(norm[0] / norm[-1]) for title, norm in norms.items()}
    for title, ratio in ratios.items():
        print(f"{title:22} {ratio:.1e}")
    diagnostics.plots.plot_norms(norms, options.picture, title=f"gradients of the last output, {options.hidden} units")
    return ratios


if __name__ == "__main__":
    main()
