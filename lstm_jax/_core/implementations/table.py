"""The table of the ways to run an LSTM's loop over time, and the choice among them."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from lstm_jax._core import tuning
from lstm_jax._core.engine import LoopConfig, Plan
from lstm_jax._core.implementations import cudnn, mosaic_gpu, scan
from lstm_jax._core.implementations.spec import CallSpec
from lstm_jax._core.structs import PyTree


class Implementation(NamedTuple):
    """One way to run the LSTM: plans for the engine, or a function of the whole call."""

    why_not: Callable[[CallSpec], str | None]
    """why it cannot run a call; None if it can"""
    is_complete: bool
    """whether it has every result and every derivative: ``implementation=None`` chooses among those"""
    plans: Callable[..., dict[str, Plan]] | None = None
    """``plans(config, scan_configs, shape of xs, width of the state)``: a plan for each platform that has its own, and
    ``"default"``"""
    run: Callable[..., tuple[PyTree, jax.Array]] | None = None
    """``run(params, xs, state, lengths, reverse=...) -> (state, ys)``, of complete arguments"""


def _scan_plans(
    config: LoopConfig, scan_configs: dict[str, tuning.ScanConfig], shape: tuple[int, ...], width: int
) -> dict[str, Plan]:
    """A plan of chunks and bodies for each platform that has a configuration; that of "cpu" serves the others."""
    return {
        "default" if platform == "cpu" else platform: Plan(
            scan.LOOP,
            config._replace(unroll=scan_config.unroll if tuning.is_concrete(shape[0]) else 1),
            tuning.max_scan_chunk(scan_config, config.remat, shape, width),
        )
        for platform, scan_config in scan_configs.items()
    }


TABLE = {
    "scan": Implementation(lambda spec: None, is_complete=True, plans=_scan_plans),
    "cudnn": Implementation(cudnn.why_not, is_complete=False, run=cudnn.run),
    "mosaic_gpu": Implementation(mosaic_gpu.why_not, is_complete=True, plans=mosaic_gpu.plans),
}
"""The implementations by name. Read at each call, so that a test may put another entry in."""


def choose(name: str | None, spec: CallSpec) -> tuple[str, str]:
    """The implementation that runs a call, and why: the one asked for by name, or what None means.

    None is the first row of ``tuning.CROSSOVERS`` that was measured to pay and can run, else "scan".

    Raises:
        ValueError: the one asked for cannot run the call; the message says why.
    """
    if name is not None:
        reason = TABLE[name].why_not(spec)
        if reason is not None:
            raise ValueError(f"implementation: got {name!r}, but {reason}")
        return name, "asked for by name"
    for platform, candidate, dtype, smallest, largest in tuning.CROSSOVERS:
        fits = spec.xs.dtype == dtype and smallest <= spec.hidden_size <= largest
        able = TABLE[candidate].is_complete and TABLE[candidate].why_not(spec) is None
        if fits and jax.default_backend() == platform and able:
            return candidate, f"measured to be faster on {platform} from {smallest} to {largest} units in {dtype}"
    return "scan", "no measurement says that another is faster here"


def describe(name: str | None, spec: CallSpec) -> str:
    """A line for each implementation: what runs, and why each other one does not."""
    chosen, why = choose(name, spec)
    lines = []
    for each, implementation in TABLE.items():
        reason = implementation.why_not(spec)
        if each == chosen:
            text = f"runs: {why}"
        elif reason is not None:
            text = f"cannot: {reason}"
        else:
            text = "could, by name" + "; first-order reverse-mode derivatives only" * (not implementation.is_complete)
        lines.append(f"{each:12} {text}")
    return "\n".join(lines)
