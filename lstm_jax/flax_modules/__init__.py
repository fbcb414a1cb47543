"""Flax modules that run on this package's recurrence: ``flax_modules.linen`` and ``flax_modules.nnx``.

``RNN`` is a drop-in replacement for Flax's ``RNN``: it wraps the same Flax cells and has the same parameter tree, so
checkpoints load unchanged. ``LSTMStack`` is ``lstm_stack`` as a Flax module. Both need Flax:
``pip install 'lstm_jax[flax]'``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_jax.flax_modules import linen, nnx

__all__ = ["linen", "nnx"]


def __getattr__(name: str) -> Any:
    """Imports ``linen`` or ``nnx`` on first use, since Flax may not be installed."""
    if name in __all__:
        return importlib.import_module(f"lstm_jax.flax_modules.{name}")
    raise AttributeError(f"module 'lstm_jax.flax_modules' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
