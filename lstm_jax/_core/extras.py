"""Optional packages: imported when they are needed, with an error that names the extra to install."""

import importlib
from types import ModuleType


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional package.

    Args:
        module: the module, such as ``"orbax.checkpoint"``.
        extra: the extra of ``lstm_jax`` that installs the package.
    Returns:
        the module.
    Raises:
        ImportError: the package is not installed; the message has the command that installs it.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != package:
            raise  # the package is there, and what is missing is one of its own
        raise missing_extra(package, extra) from error


def missing_extra(package: str, extra: str) -> ImportError:
    """Makes the error for a package that is not installed, for modules that import it by name."""
    return ImportError(f"{package} is not installed; install it with: pip install 'lstm_jax[{extra}]'")
