"""Every choice that rests on a measurement, with the measurement: what runs is decided here and nowhere else."""

import math
from typing import NamedTuple


class ScanConfig(NamedTuple):
    """How ``lax.scan`` runs the loop over time on a platform."""

    unroll: int
    """steps in a body of the loop"""
    gates_chunk_cells: int
    """steps times rows times H in a chunk of time, where gates are saved"""
    states_chunk_cells: int
    """the same, where states alone are saved"""
    max_chunk_steps: int | None = None
    """steps in a chunk at most, whatever the sizes; None means no such limit"""


SCAN_CONFIGS = {"cpu": ScanConfig(1, 2**17, 2**16), "cuda": ScanConfig(4, 2**22, 2**22)}
"""By the platform that a program is lowered for; others, where nothing was counted or measured, take that of "cpu".
Read at each call, so that a test or a benchmark may put another entry in.

On a CPU a chunk is what the caches hold, and 2 to 8 steps in a body change nothing. On a GPU a kernel and a start by
the host cost time whatever they compute. Kernels and starts a time step, and MiB of memory, forward and backward in
float32, by steps in a body, counted in programs compiled for an H100 by ``python -m benchmarks.gpu_programs``; times
are not measured:

| B H | 1 | 4 | 16 | 4, a CPU's chunks | flax linen |
| 16 128 | 14.0 2.0 48 | 7.3 0.5 48 | 6.4 0.1 48 | 7.7 0.8 36 | 36.1 2.0 53 |
| 128 512 | 12.5 2.1 614 | 7.2 0.6 615 | 5.9 0.2 619 | 10.3 0.5 403 | 40.0 2.0 1682 |

More steps in a body are dearer to compile."""
MIN_CHUNK_ROWS = 512
"""Steps times rows in a chunk at least, since each chunk reads and writes the gradient of every weight."""
MIN_NUM_CHUNKS = 8
"""With "states" time is cut into at least so many chunks, for memory, unless there is one row."""
MAX_UNBATCHED_STEPS = {"gates": 64, "states": 12}
"""Steps in a chunk at most without a batch axis: such a sequence is often a row under ``vmap``, which hides the others.
Per-example gradients with "states" (T=96 B=32 D=64 H=128) took 42 ms with 8 steps, 35 with 12, 34 with 16 and 28 with
32, since a chunk reads and writes every example's gradient of every weight; up to 12 steps the memory of a layer under
``vmap`` stays below 0.45 of linen's (0.44; with 16 it is 0.51).

Training step in ms and its memory as a part of flax linen's, two x86 cores (Zen 4), jax 0.10.2, by steps in a chunk:

| T B D H | "gates" | "states" |
| 128 32 256 256 | 8: 120 .57, 16: 119 .61, 32: 121 .71, 64: 125 .92 | 8: 122 .31, 16: 122 .40 |
| 96 32 64 128 | 32: 22.7 .78, 48: 24.0 .91, 96: 22.6 1.12 | 12: 26.0 .40, 16: 26.2 .45, 24: 25.8 .56 |
| 128 64 512 512 | 4: 771 .57, 8: 694 .57, 16: 731 .61, 32: 699 .71 | 4: 854 .29, 8: 838 .31, 16: 817 .40 |
| 8192 8 32 64 | 32: 258 .57, 128: 225 .57, 512: 221 .57 | 16: 247 .29, 64: 230 .29, 256: 213 .29, 512: 229 .30 |
| 128 1 128 128 | 32: 2.4, 128: 2.05 | 16: 3.2, 32: 2.8, 128: 2.3 |
| 64 1 512 1024 | 32: 87 1.55, 64: 51 .14 | 16: 100 1.50, 64: 53 .14 |"""

MAX_SAVED_GATES_CELLS = 65536
"""``remat=None`` saves the gates while T * H is at most this, and only states beyond, where memory is what limits.
Training step at T=128, same machine, "states" against "gates": B=32 H=256 110 and 99 ms, B=64 H=512 775 and 652."""

CROSSOVERS: tuple[tuple[str, str, str, int, int], ...] = ()
"""Where ``implementation=None`` takes another than "scan": (platform as ``jax.default_backend`` names it, "gpu" for
CUDA; implementation, dtype of xs, smallest and largest
H), the first that can run. Empty, since nothing but CPUs has been measured."""

MAX_KERNEL_CHUNK_CELLS = 2**24
"""Steps times rows times H in a chunk whose loop is one kernel: 256 MiB of pre-activations. Not measured."""

RATIONAL_TANH_MIN_SIZE = 32768
"""Elements from which a float32 tanh is computed by a rational function on CPU. XLA divides an operation among cores by
the count of its additions and multiplications, where tanh counts as none, so a slab that is small for memory but not
for arithmetic stays on one core, and the others wake late for the next product. Forward pass, two x86 cores (Zen 4),
rational function against ``jnp.tanh``: B=32 H=256 27.7 and 31.0 ms, B=32 H=384 29.4 and 31.1, B=16 H=512 25.9 and
27.7; with jax 0.12.0.1 27.2 and 30.6, 31.3 and 31.5, 26.5 and 27.6. From 65536 elements there is no difference; at
24576 the second core gives nothing, and with jax 0.12.0.1 it costs a tenth."""


def choose_remat(time: int, width: int) -> str:
    """Resolves ``remat=None`` for T steps and H units; the batch is not considered, since ``vmap`` hides it."""
    return "gates" if is_concrete(time) and time * width <= MAX_SAVED_GATES_CELLS else "states"


def max_scan_chunk(config: ScanConfig, remat: str, shape: tuple[int, ...], width: int) -> int:
    """Returns the maximum number of steps in a chunk, for inputs ``[T, *batch, D]`` and a state of this width."""
    time, *batch = shape[:-1]
    if not batch or not all(map(is_concrete, shape)):
        limit = MAX_UNBATCHED_STEPS[remat]
    else:
        rows = max(math.prod(batch), 1)
        cells = config.gates_chunk_cells if remat == "gates" else config.states_chunk_cells
        limit = max(cells // width, MIN_CHUNK_ROWS) // rows
        if remat == "states" and rows > 1:
            limit = min(limit, time // MIN_NUM_CHUNKS)
    return max(min(limit, config.max_chunk_steps or limit), 1)


def max_kernel_chunk(shape: tuple[int, ...], width: int) -> int:
    """Returns the maximum number of steps in a chunk that one kernel runs: as few launches as memory allows."""
    return max(MAX_KERNEL_CHUNK_CELLS // (max(math.prod(shape[1:-1]), 1) * width), 1)


def is_concrete(size: int) -> bool:
    """Whether a size is a number; in an exported program it may be a symbol, on which no choice can depend."""
    return isinstance(size, int)
