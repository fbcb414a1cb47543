"""The libraries that are compared, one file each."""

import importlib

from benchmarks.competitors.layer import Layer

LIBRARIES = {
    "lstm_jax": "ours",
    "naive scan": "naive",
    "flax linen": "flax_linen",
    "flax nnx": "flax_nnx",
    "haiku": "dm_haiku",
    "equinox": "equinox",
    "keras": "keras",
    "jax.experimental.rnn": "cudnn",
}
"""Library to the module here that offers its layers; PyTorch stands apart, not being written in JAX."""


def load(library: str) -> dict[str, Layer] | str:
    """The library's rows, or the reason why there are none."""
    try:
        return importlib.import_module(f"{__name__}.{LIBRARIES[library]}").layers()
    except (ImportError, NotImplementedError) as reason:
        return str(reason)
