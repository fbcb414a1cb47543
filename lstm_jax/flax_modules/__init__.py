"""Flax modules on the engine: ``lstm_jax.flax_modules.linen`` and ``lstm_jax.flax_modules.nnx``.

``RNN`` takes the place of Flax's own around Flax's own cells, with the same parameter tree, so a checkpoint loads
unchanged. ``LSTMStack`` holds our parameters and is called like ``lstm_stack``. Both need Flax:
``pip install 'lstm_jax[flax]'``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_jax.flax_modules import linen, nnx

__all__ = ["linen", "nnx"]


def __getattr__(name: str) -> Any:
    """Imports ``linen`` or ``nnx`` when it is first used, since Flax may not be installed."""
    if name in __all__:
        return importlib.import_module(f"lstm_jax.flax_modules.{name}")
    raise AttributeError(f"module 'lstm_jax.flax_modules' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
