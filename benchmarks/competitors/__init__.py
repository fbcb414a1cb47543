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
"""Name of a library to the module here that offers its layers. PyTorch is not among them, since it is not JAX."""


def load(library: str) -> dict[str, Layer] | str:
    """Returns the layers of a library by the names of their rows, or the reason why there are none."""
    try:
        return importlib.import_module(f"{__name__}.{LIBRARIES[library]}").layers()
    except (ImportError, NotImplementedError) as reason:
        return str(reason)
