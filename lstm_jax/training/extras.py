"""Packages that only some functions need, imported when they are called."""

import importlib
from types import ModuleType


def import_extra(module: str) -> ModuleType:
    """Imports a package that comes with the extra ``lstm_jax[training]``.

    Raises:
        ImportError: the package is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise ImportError(f"{name} is not installed, want it by: pip install 'lstm_jax[training]'") from error
