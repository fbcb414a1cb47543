"""Ways to run the LSTM's loop over time, the one table of them, and the choice among them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lstm_jax._core import tuning
from lstm_jax._core.implementations import cudnn


class CallSpec(NamedTuple):
    """What of a call decides which can run it."""

    xs: jax.Array
    units: int
    mask: Any
    resets: Any
    remat: Any


def _why_not_mosaic_gpu(asked: CallSpec) -> str | None:
    from lstm_jax._core.implementations import (
        mosaic_gpu,  # it brings Pallas, a quarter of the time to import this package
    )

    return mosaic_gpu.why_not(asked.xs, asked.units)


TABLE: dict[str, Callable[[CallSpec], str | None]] = {
    "scan": lambda asked: None,
    "cudnn": lambda asked: cudnn.why_not(asked.xs, mask=asked.mask, resets=asked.resets, remat=asked.remat),
    "mosaic_gpu": _why_not_mosaic_gpu,
}
"""The implementations by name, and why each cannot run a call; None if it can."""

COMPLETE = ("scan", "mosaic_gpu")
"""Those with every result and every derivative: what ``implementation=None`` chooses from."""


def resolve(name: str | None, asked: CallSpec) -> str:
    """The implementation that runs.

    Raises:
        ValueError: the one that was named cannot, and why.
    """
    if name is None:
        return choose(asked)[0]
    reason = TABLE[name](asked)
    if reason is not None:
        raise ValueError(f"implementation: got {name!r}, but {reason}")
    return name


def choose(asked: CallSpec) -> tuple[str, str]:
    """What None means for a call, and why: the first in ``tuning.CROSSOVERS`` that was measured to pay and can run."""
    for platform, name, dtype, least_units, most_units in tuning.CROSSOVERS:
        fits = asked.xs.dtype == dtype and least_units <= asked.units <= most_units
        if name in COMPLETE and fits and jax.default_backend() == platform and TABLE[name](asked) is None:
            return name, f"measured to be faster on {platform} from {least_units} to {most_units} units in {dtype}"
    return "scan", "no measurement says that another is faster here"


def describe(name: str | None, asked: CallSpec) -> str:
    """A line for each implementation: what runs, and why each other one does not."""
    chosen, why = choose(asked) if name is None else (resolve(name, asked), "asked for by name")
    lines = []
    for one, why_not in TABLE.items():
        reason = why_not(asked)
        if one == chosen:
            text = f"runs: {why}"
        elif reason is not None:
            text = f"cannot: {reason}"
        else:
            text = "could, by name" + ("" if one in COMPLETE else "; first-order reverse-mode derivatives only")
        lines.append(f"{one:12} {text}")
    return "\n".join(lines)
