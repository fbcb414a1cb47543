"""Access to ``lstm_jax._core`` for the GPU benchmarks; no other benchmark imports it."""

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
    """Makes a layer that runs the scan implementation with the settings of a platform, on any platform.

    Args:
        platform: ``"cpu"`` or ``"gpu"``, as ``jax.default_backend`` returns it.
        unroll: number of time steps in the body of the loop; None means the platform's default.
    """
    default_config = _scan_config(platform)
    config = default_config if unroll is None else default_config._replace(unroll=unroll)
    return _make_layer(TABLE["scan"], (("cpu", config),))


def kernel_layer() -> Layer:
    """Makes a layer that runs the ``mosaic_gpu`` kernels, without checking the device."""
    return _make_layer(TABLE["mosaic_gpu"], tuple(tuning.SCAN_CONFIGS.items()))


def _make_layer(implementation: Implementation, scan_configs: tuple[tuple[str, tuning.ScanConfig], ...]) -> Layer:
    spec = sequence.StaticArgs(lj.cells.LSTM, implementation, False, None, scan_configs)

    def run_sequence(params: lj.LSTMParams, xs: jax.Array, **options: Any) -> jax.Array:
        del options
        call = check_call(lj.cells.LSTM, params, xs, None, SequenceOptions())
        return sequence.run(spec, call)[1]

    return Layer(lambda params: params, lambda params: params, run_sequence, lj.lstm_cell)


def _scan_config(platform: str) -> tuning.ScanConfig:
    """Returns the scan settings of a platform, ``"cpu"`` or ``"gpu"``."""
    return tuning.SCAN_CONFIGS["cuda" if platform == "gpu" else "cpu"]


def default_unroll(platform: str) -> int:
    """Returns the default number of time steps in the body of a scan on a platform."""
    return _scan_config(platform).unroll


def why_not(implementation: str, xs: jax.Array, hidden_size: int) -> str | None:
    """Returns the reason why an implementation cannot run a layer, or None if it can."""
    return TABLE[implementation].why_not(CallSpec(xs, hidden_size, None, None, None))


def why_not_on_hopper(xs: jax.Array, hidden_size: int) -> str | None:
    """Returns the reason why ``mosaic_gpu`` cannot run a layer on a Hopper GPU, or None if it can."""
    return mosaic_gpu.why_not_on_hopper(CallSpec(xs, hidden_size, None, None, None))


def kernel_program(
    direction: str, dtype: str, hidden_size: int, has_flags: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns a function that runs one ``mosaic_gpu`` kernel, and its arguments for 64 time steps.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        dtype: the dtype of the inputs.
        hidden_size: H.
        has_flags: whether the kernel supports lengths, a mask or resets.
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
    """Returns the number of warps in a thread block of a ``mosaic_gpu`` kernel."""
    from lstm_jax._core.implementations import layout

    return 4 * (hidden_size // layout.GROUP_UNITS)
