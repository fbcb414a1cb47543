"""What the kernels share: what a group of warps reads and writes, products from shared memory, the launch."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu

from lstm_jax._core.implementations.layout import COLUMNS, GATES, ROWS, split

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

    def load(self, ref: Any, *place: Any) -> jax.Array:
        """``[ROWS, COLUMNS]`` of an array that ends in units and sequences."""
        return plgpu.load(ref.at[(*place, self.units, self.columns)], layout=plgpu.Layout.WGMMA, optimized=False)

    def store(self, ref: Any, value: jax.Array, *place: Any) -> None:
        """The reverse."""
        plgpu.store(ref.at[(*place, self.units, self.columns)], value, optimized=False)

    def flag(self, ref: Any, step: jax.Array) -> jax.Array:
        """Whether a flag is set, ``[ROWS, COLUMNS]``."""
        row = ref.at[self.time(step), self.columns]
        row = plgpu.load(row, layout=plgpu.Layout.WGMMA.reduce(0), optimized=False)
        return lax.broadcast_in_dim(row, (ROWS, COLUMNS), (1,)) > 0.5


class Memory(NamedTuple):
    """Shared memory of a block, and its barriers."""

    kernel: Any
    """``[P 4, H, H]``"""
    shared: Any
    """what the groups exchange, twice"""
    loaded: Any
    """the kernel is there"""
    complete: Any
    """all groups have written their units"""


def launch(
    body: Callable[[Block, Memory, Any, Any], None],
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
    groups, count = kernel.shape[-1] // ROWS, len(leaves)

    def entry(source: Any, *refs: Any) -> None:
        memory = Memory(*refs[-len(Memory._fields) :])
        group, number = lax.axis_index("group"), lax.axis_index("block")
        block = Block(pl.ds(group * ROWS, ROWS), pl.ds(number * COLUMNS, COLUMNS), steps, backwards)

        @pl.when(group == 0)
        def _() -> None:
            plgpu.copy_gmem_to_smem(source, memory.kernel, memory.loaded)

        given = jax.tree.unflatten(structure, refs[:count])
        body(block, memory, given, jax.tree.unflatten(out_structure, refs[count : -len(Memory._fields)]))

    places = [plgpu.SMEM(kernel.shape, kernel.dtype), plgpu.SMEM(shared, kernel.dtype)]
    found = plgpu.kernel(
        entry,
        out_type=tuple(results),
        scratch_types=[*places, plgpu.Barrier(), plgpu.Barrier(num_arrivals=groups)],
        grid=(leaves[0].shape[-1] // COLUMNS,),
        grid_names=("block",),
        num_threads=groups,
        thread_name="group",
        interpret=interpret,
    )(kernel, *leaves)
    return jax.tree.unflatten(out_structure, found)


def put(slot: Any, units: Any, value: jax.Array, *place: Any) -> None:
    """This group's units of what is shared, in its parts."""
    for number, part in enumerate(split(value, slot.shape[0])):
        plgpu.store(slot.at[(number, *place, units)], part)


def tell(memory: Memory) -> None:
    """This group has written its units."""
    plgpu.commit_smem()
    plgpu.barrier_arrive(memory.complete)


def wait(memory: Memory) -> None:
    """Until all groups have told."""
    plgpu.barrier_wait(memory.complete)


def sums(kernel: Any, slot: Any, units: Any, terms: list[list[tuple[int, int | None]]]) -> list[jax.Array]:
    """Sums of products ``kernel[gate] @ slot[place]``, each ``[ROWS, COLUMNS]``, all under way at once."""
    pairs = [(0, 0)] if kernel.shape[0] == GATES else [(0, 0), (0, 1), (1, 0)]

    def multiply(*totals: Any) -> list[jax.Array]:
        for total, own in zip(totals, terms, strict=True):
            for gate, place in own:
                for one, other in pairs:
                    right = slot.at[other] if place is None else slot.at[other, place]
                    plgpu.wgmma(total, kernel.at[one * GATES + gate, units], right)
        return [total[...] for total in totals]

    return pl.run_scoped(multiply, *[plgpu.ACC((ROWS, COLUMNS), jnp.float32)] * len(terms))


def sigmoid(x: jax.Array) -> jax.Array:
    """``1 / (1 + exp(-x))`` in 9 instructions fewer than by a tanh; a derivative of this form would overflow."""
    root = lax.rsqrt(1 + jnp.exp2(x * -math.log2(math.e)))
    return root * root
