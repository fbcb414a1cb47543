"""Import of optional dependencies at the time they are needed."""

import importlib
from types import ModuleType


def import_extra(module: str) -> ModuleType:
    """Imports a module of an optional dependency, installed with ``lstm_jax[training]``.

    Raises:
        ImportError: the package is not installed; the message gives the command to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f"{package} is not installed; install it with: pip install 'lstm_jax[training]'") from error
