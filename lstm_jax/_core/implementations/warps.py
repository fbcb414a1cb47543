"""What the kernels share: what a group of warps reads and writes, products from shared memory, the launch."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu

from lstm_jax._core.implementations.layout import BLOCK_SEQUENCES, GROUP_UNITS, NUM_GATES, split_bfloat16

plgpu: Any = mosaic_gpu
"""Its functions differ between versions of jax."""


class Flags(NamedTuple):
    """Of each step, 1 or 0 ``[T, B]``: see ``steps.StepFlags``."""

    taken: jax.Array
    carried: jax.Array


class Block(NamedTuple):
    """What a group of warps of a block works on, and how it reads and writes."""

    units: Any
    columns: Any
    steps: int
    backwards: bool
    """whether time is read from its end"""

    def time(self, step: jax.Array) -> jax.Array:
        """The index in time of the step-th one read; of the last one beyond it."""
        step = lax.min(step, jnp.int32(self.steps - 1))
        return self.steps - 1 - step if self.backwards else step

    def load(self, ref: Any, *index: Any) -> jax.Array:
        """Reads ``[GROUP_UNITS, BLOCK_SEQUENCES]`` of an array that ends in units and sequences."""
        return plgpu.load(ref.at[(*index, self.units, self.columns)], layout=plgpu.Layout.WGMMA, optimized=False)

    def store(self, ref: Any, value: jax.Array, *index: Any) -> None:
        """Writes ``[GROUP_UNITS, BLOCK_SEQUENCES]`` of an array that ends in units and sequences."""
        plgpu.store(ref.at[(*index, self.units, self.columns)], value, optimized=False)

    def flag(self, ref: Any, step: jax.Array) -> jax.Array:
        """Whether a flag is set, ``[GROUP_UNITS, BLOCK_SEQUENCES]``."""
        row = ref.at[self.time(step), self.columns]
        row = plgpu.load(row, layout=plgpu.Layout.WGMMA.reduce(0), optimized=False)
        return lax.broadcast_in_dim(row, (GROUP_UNITS, BLOCK_SEQUENCES), (1,)) > 0.5


class SharedMemory(NamedTuple):
    """Shared memory of a block, and its barriers."""

    kernel: Any
    """``[P 4, H, H]``"""
    shared: Any
    """what the groups exchange, twice"""
    loaded: Any
    """barrier: the kernel has arrived"""
    complete: Any
    """barrier: all groups have written their units"""


def launch(
    body: Callable[[Block, SharedMemory, Any, Any], None],
    kernel: jax.Array,
    inputs: Any,
    outputs: Any,
    shared: tuple[int, ...],
    steps: int,
    backwards: bool,
    interpret: Any,
) -> Any:
    """Runs the body on every block of sequences, each group of warps with its units; the kernel is on its way then.

    Args:
        inputs: a tree of arrays that end in units and sequences; the body gets references.
        outputs: a tree of shapes.
        shared: the shape of what the groups exchange.
    """
    leaves, structure = jax.tree.flatten(inputs)
    results, out_structure = jax.tree.flatten(outputs)
    groups, count = kernel.shape[-1] // GROUP_UNITS, len(leaves)

    def entry(kernel_ref: Any, *refs: Any) -> None:
        memory = SharedMemory(*refs[-len(SharedMemory._fields) :])
        group, number = lax.axis_index("group"), lax.axis_index("block")
        block = Block(
            pl.ds(group * GROUP_UNITS, GROUP_UNITS), pl.ds(number * BLOCK_SEQUENCES, BLOCK_SEQUENCES), steps, backwards
        )

        @pl.when(group == 0)
        def _() -> None:
            plgpu.copy_gmem_to_smem(kernel_ref, memory.kernel, memory.loaded)

        input_refs = jax.tree.unflatten(structure, refs[:count])
        body(block, memory, input_refs, jax.tree.unflatten(out_structure, refs[count : -len(SharedMemory._fields)]))

    scratch = [plgpu.SMEM(kernel.shape, kernel.dtype), plgpu.SMEM(shared, kernel.dtype)]
    results = plgpu.kernel(
        entry,
        out_type=tuple(results),
        scratch_types=[*scratch, plgpu.Barrier(), plgpu.Barrier(num_arrivals=groups)],
        grid=(leaves[0].shape[-1] // BLOCK_SEQUENCES,),
        grid_names=("block",),
        num_threads=groups,
        thread_name="group",
        interpret=interpret,
    )(kernel, *leaves)
    return jax.tree.unflatten(out_structure, results)


def write_shared(slot: Any, units: Any, value: jax.Array, *index: Any) -> None:
    """This group's units of what is shared, in its parts."""
    for number, part in enumerate(split_bfloat16(value, slot.shape[0])):
        plgpu.store(slot.at[(number, *index, units)], part)


def arrive(memory: SharedMemory) -> None:
    """This group has written its units."""
    plgpu.commit_smem()
    plgpu.barrier_arrive(memory.complete)


def wait(memory: SharedMemory) -> None:
    """Until all groups have told."""
    plgpu.barrier_wait(memory.complete)


def multiply_gates(kernel: Any, slot: Any, units: Any, terms: list[list[tuple[int, int | None]]]) -> list[jax.Array]:
    """Computes sums of products ``kernel[gate] @ slot[slot_gate]`` ``[GROUP_UNITS, BLOCK_SEQUENCES]``, all at once."""
    pairs = [(0, 0)] if kernel.shape[0] == NUM_GATES else [(0, 0), (0, 1), (1, 0)]

    def multiply(*totals: Any) -> list[jax.Array]:
        for total, factors in zip(totals, terms, strict=True):
            for gate, slot_gate in factors:
                for left_part, right_part in pairs:
                    right = slot.at[right_part] if slot_gate is None else slot.at[right_part, slot_gate]
                    plgpu.wgmma(total, kernel.at[left_part * NUM_GATES + gate, units], right)
        return [total[...] for total in totals]

    return pl.run_scoped(multiply, *[plgpu.ACC((GROUP_UNITS, BLOCK_SEQUENCES), jnp.float32)] * len(terms))


def sigmoid(x: jax.Array) -> jax.Array:
    """``1 / (1 + exp(-x))`` in 9 instructions fewer than by a tanh; a derivative of this form would overflow."""
    root = lax.rsqrt(1 + jnp.exp2(x * -math.log2(math.e)))
    return root * root
