"""Why the LSTM exists: how much of a gradient comes back through 500 steps, in one picture.

    python examples/gradient_flow.py
    python examples/gradient_flow.py --time 2000 --hidden 64

Untrained layers of one size read the same random sequence; the loss is the sum of the last output. A simple network's
gradient vanishes (Hochreiter 1991; Bengio, Simard and Frasconi 1994); an LSTM's lasts as long as its forget gates stay
open, which their biases decide: 1 is usual (Gers et al. 2000), chrono draws them for memories up to T (Tallec and
Ollivier 2018). Expect, of the gradient at the last step, at the first one: simple network 1e-72, GRU 3e-81, LSTM with
forget bias 1 7e-29, LSTM with chrono biases 0.18.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common.results import whole

import lstm_jax as lj
from lstm_jax import diagnostics
from lstm_jax.cells import CELLS
from lstm_jax.diagnostics import pictures

TIME = 500
HIDDEN = 32
INPUTS = 8
DRAWS = 8
"""sequences, and the norm is over all of them"""
NETWORKS = {
    "simple network": ("simple", {}),
    "GRU": ("gru", {}),
    "LSTM, forget bias 1": ("lstm", {}),
    "LSTM, chrono biases": ("lstm", {"scheme": "chrono"}),
}


def gradient_norms(name: str, options: Mapping[str, Any], time: int, hidden: int, seed: int) -> np.ndarray:
    """The norm of the gradient of each step's state, ``[T]``, in float64: it falls below what float32 can hold."""
    keys = jax.random.split(jax.random.key(seed))
    xs = jax.random.normal(keys[0], (time, DRAWS, INPUTS), jnp.float64)
    more = {"max_time": time} if options.get("scheme") == "chrono" else {}
    params = CELLS[name].init(keys[1], INPUTS, hidden, dtype=jnp.dtype("float64"), **options, **more)

    def loss(final: lj.LSTMState, ys: jax.Array) -> jax.Array:
        return ys[-1].sum()

    found = diagnostics.state_gradients(loss, params, xs, cell=CELLS[name])
    return np.sqrt(sum(np.square(leaf).sum(axis=(1, 2)) for leaf in jax.tree.leaves(found)))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Measures, prints, draws; the share of the last step's gradient that the first one's is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=whole, default=TIME, help="steps T (%(default)s)")
    parser.add_argument("--hidden", type=whole, default=HIDDEN, help="units (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("gradient_flow.png"), help="(%(default)s)")
    options = parser.parse_args(arguments)
    with jax.enable_x64(True):
        norms = {
            title: gradient_norms(name, how, options.time, options.hidden, options.seed)
            for title, (name, how) in NETWORKS.items()
        }
    shares = {title: float(norm[0] / norm[-1]) for title, norm in norms.items()}
    for title, share in shares.items():
        print(f"{title:22} {share:.1e}")
    pictures.plot_flow(norms, options.picture, title=f"gradients of the last output, {options.hidden} units")
    return shares


if __name__ == "__main__":
    main()
