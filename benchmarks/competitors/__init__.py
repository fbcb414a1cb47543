"""LSTM layers of the libraries that the benchmarks compare, one file per library."""

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
"""Library to the module with its layers. PyTorch has a separate interface in ``pytorch.py``, since it is not JAX."""


def load(library: str) -> dict[str, Layer] | str:
    """Returns the layers of a library by name of their row, or the reason why it cannot run here."""
    try:
        return importlib.import_module(f"{__name__}.{LIBRARIES[library]}").layers()
    except (ImportError, NotImplementedError) as reason:
        return str(reason)
