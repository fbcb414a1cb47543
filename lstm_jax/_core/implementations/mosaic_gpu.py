"""``implementation="mosaic_gpu"``: what the kernel for NVIDIA GPUs can run; ``kernel_loop`` is the loop itself.

Small layers only: the recurrent kernel has to fit in the shared memory of one multiprocessor. The loop is imported when
it is used: it brings Pallas, a quarter of the time that importing this package takes.
"""

from collections.abc import Callable
from typing import Any

import jax

from lstm_jax._core import tuning
from lstm_jax._core.engine import LoopConfig, Plan
from lstm_jax._core.implementations.layout import NUM_PARTS
from lstm_jax._core.implementations.spec import CallSpec

MAX_HIDDEN_SIZE = {1: 128, 2: 64}
"""H by parts: ``8 P H^2`` bytes of shared memory beside what the groups exchange, of 227 KiB on Hopper."""
MIN_COMPUTE_CAPABILITY = 9.0
"""Hopper's."""


def why_not(spec: CallSpec) -> str | None:
    """Why the kernel cannot run this layer on the default device, or None if it can."""
    device = jax.devices()[0]
    capability = getattr(device, "compute_capability", None) if device.platform == "gpu" else None
    if capability is None or float(capability) < MIN_COMPUTE_CAPABILITY:
        return f"it needs an NVIDIA GPU from Hopper on, the default device is {device.device_kind}"
    return why_not_on_hopper(spec)


def why_not_on_hopper(spec: CallSpec) -> str | None:
    """Why the kernel cannot run this layer even where there is such a GPU."""
    if jax.__version_info__ < (0, 11):
        return f"its kernel is written for jax 0.11 and newer, this is {jax.__version__}"
    num_parts = NUM_PARTS.get(spec.xs.dtype)
    if num_parts is None:
        return f"its kernel is for {' and '.join(map(str, NUM_PARTS))}, xs is {spec.xs.dtype}"
    limit = MAX_HIDDEN_SIZE[num_parts]
    if spec.hidden_size > limit:
        return f"its recurrent kernel of {spec.hidden_size} units does not fit; at most {limit} in {spec.xs.dtype}"
    if not all(map(tuning.is_concrete, spec.xs.shape)):
        return "its kernel is compiled for known sizes, and a size of xs is a symbol"
    return None


def plans(
    config: LoopConfig,
    scan_configs: dict[str, tuning.ScanConfig],
    shape: tuple[int, ...],
    width: int,
    *,
    launch: Callable[..., Any] | None = None,
) -> dict[str, Plan]:
    """One plan for every platform: as few launches as memory allows; derivatives of the derivative by a GPU's scan.

    Args:
        launch: ``launch(kernel, *arrays)``, which runs a function of ``kernels`` in a way of its own, such as an
            interpreter, on any device; None calls it.
    """
    from lstm_jax._core.implementations.kernel_loop import make_loop

    unroll = scan_configs["cuda"].unroll
    return {"default": Plan(make_loop(launch), config._replace(unroll=unroll), tuning.max_kernel_chunk(shape, width))}
