"""The library's internals that the benchmarks for GPUs use; no other file here imports ``lstm_jax._core``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import lstm_jax as lj
from benchmarks.competitors.layer import Layer
from lstm_jax._core import sequence, tuning
from lstm_jax._core.call import check_call
from lstm_jax._core.implementations import mosaic_gpu
from lstm_jax._core.implementations.spec import CallSpec
from lstm_jax._core.implementations.table import TABLE, Implementation
from lstm_jax._core.structs import SequenceOptions


def scan_layer(platform: str, unroll: int | None = None) -> Layer:
    """Makes a layer whose loop over time is a scan, configured as for a platform, on whatever platform it runs.

    Args:
        platform: ``"cpu"`` or ``"gpu"``, as ``jax.default_backend`` returns it.
        unroll: steps in the body of the loop; None means the platform's default.
    """
    config = _scan_config(platform)
    config = config if unroll is None else config._replace(unroll=unroll)
    return _layer(TABLE["scan"], (("cpu", config),))


def kernel_layer() -> Layer:
    """Makes a layer whose loop over time is the kernel of ``mosaic_gpu``, on whatever device it is compiled for."""
    return _layer(TABLE["mosaic_gpu"], tuple(tuning.SCAN_CONFIGS.items()))


def _layer(implementation: Implementation, scan_configs: tuple[tuple[str, tuning.ScanConfig], ...]) -> Layer:
    spec = sequence.StaticArgs(lj.cells.LSTM, implementation, False, None, scan_configs)

    def run_sequence(params: lj.LSTMParams, xs: jax.Array, **options: Any) -> jax.Array:
        del options
        call = check_call(lj.cells.LSTM, params, xs, None, SequenceOptions())
        return sequence.run(spec, call)[1]

    return Layer(lambda params: params, lambda params: params, run_sequence, lj.lstm_cell)


def _scan_config(platform: str) -> tuning.ScanConfig:
    return tuning.SCAN_CONFIGS["cuda" if platform == "gpu" else "cpu"]


def default_unroll(platform: str) -> int:
    """Returns the number of steps in the body of a scan on a platform."""
    return _scan_config(platform).unroll


def why_not(implementation: str, xs: jax.Array, hidden_size: int) -> str | None:
    """Returns the reason why an implementation cannot run a layer, or None if it can."""
    return TABLE[implementation].why_not(CallSpec(xs, hidden_size, None, None, None))


def why_not_on_hopper(xs: jax.Array, hidden_size: int) -> str | None:
    """Returns the reason why ``mosaic_gpu`` cannot run a layer even where there is a GPU for it, or None if it can."""
    return mosaic_gpu.why_not_on_hopper(CallSpec(xs, hidden_size, None, None, None))


def kernel_program(
    direction: str, dtype: str, hidden_size: int, has_flags: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns a function that is one kernel of ``mosaic_gpu`` alone, and arguments for 64 steps.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        dtype: the dtype of the inputs.
        hidden_size: H.
        has_flags: whether there are lengths, a mask or resets.
    """
    from lstm_jax._core.implementations import kernels, layout

    num_steps, state_shape = 64, (hidden_size, layout.BLOCK_SEQUENCES)
    num_parts = layout.NUM_PARTS[jnp.dtype(dtype)]
    kernel = jnp.zeros((num_parts * layout.NUM_GATES, hidden_size, hidden_size), jnp.bfloat16)
    state = (jnp.zeros(state_shape),) * 2
    flags = kernels.Flags(*[jnp.ones((num_steps, layout.BLOCK_SEQUENCES))] * 2) if has_flags else None
    if direction == "forward":
        z = jnp.zeros((num_steps, layout.NUM_GATES, *state_shape))
        reset_state = state if has_flags else None
        return partial(kernels.forward, reverse=False), (z, kernel, state, flags, reset_state)
    coefficients = jnp.zeros((num_steps, kernels.NUM_COEFFICIENTS, *state_shape))
    dys = jnp.zeros((num_steps, *state_shape))
    return partial(kernels.backward, reverse=False), (coefficients, kernel, dys, state, flags)


def warps_per_block(hidden_size: int) -> int:
    """Returns how many warps run a kernel of ``mosaic_gpu`` for one group of sequences."""
    from lstm_jax._core.implementations import layout

    return 4 * (hidden_size // layout.GROUP_UNITS)
