"""A persistent LSTM for NVIDIA GPUs from Hopper on: the loop over time inside one kernel, by Pallas Mosaic GPU.

A block takes ``BLOCK_SEQUENCES`` sequences and keeps the recurrent kernel in shared memory from the first step to the
last; blocks never wait for each other. Everything lies transposed, units in rows and sequences in columns, so that the
units fill the 64 rows of a matrix instruction however few the sequences are. A group of four warps has 64 units: it
computes the pre-activations of all four gates, hence the gates' maths stays in its registers, with c, from step to
step. Only what the product of the next step reads, h, and in the backward kernel dz, goes through shared memory, twice
buffered; one barrier a step tells the groups that it is complete. The step after is loaded while one is computed.

Letters: P parts, 4 gates, H units (a multiple of 64), B sequences (a multiple of ``BLOCK_SEQUENCES``), T steps. The
kernel and h are bfloat16, in P = 1 part. Float32 is P = 2, a high and a low part, of which three products are summed
(Markidis et al. 2018, arXiv:1803.04014): errors near 2^-16, where one product in TF32 has 2^-11. All else is float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import mosaic_gpu

from lstm_jax._core.implementations.layout import BLOCK_SEQUENCES, NUM_GATES
from lstm_jax._core.implementations.warps import (
    Block,
    Flags,
    SharedMemory,
    arrive,
    launch,
    multiply_gates,
    sigmoid,
    wait,
    write_shared,
)

plgpu: Any = mosaic_gpu
NUM_COEFFICIENTS = 6


def forward(
    z: jax.Array,
    kernel: jax.Array,
    state: tuple[jax.Array, jax.Array],
    flags: Flags | None,
    reset: tuple[jax.Array, jax.Array] | None,
    *,
    reverse: bool,
    interpret: Any = None,
) -> list[jax.Array]:
    """Runs the recurrence: the states after each step.

        a = z + kernel h    c' = f c + i g    h' = o tanh(c')    gates of a as in ``cells.lstm``

    Args:
        z: the input's share and the bias ``[T, 4, H, B]``.
        kernel: ``[P 4, H out, H in]``.
        state: h and c before the first step read, ``[H, B]``.
        flags, reset: which steps are taken and which carry the state on, and h and c for those that do not; or None.
    Returns:
        h and c ``[T, H, B]``.
    """
    time, _, hidden, batch = z.shape
    states = [jax.ShapeDtypeStruct((time, hidden, batch), jnp.float32)] * 2
    shared = (2, len(kernel) // NUM_GATES, hidden, BLOCK_SEQUENCES)
    inputs = (z, state, flags, reset)
    results: list[jax.Array] = launch(_forward, kernel, inputs, states, shared, time, reverse, interpret)
    return results


def _forward(block: Block, memory: SharedMemory, inputs: Any, outputs: Any) -> None:
    z, start, flags, resets = inputs
    reset = None if resets is None else [block.load(ref) for ref in resets]

    def entering(step: jax.Array, state: list[jax.Array]) -> list[jax.Array]:
        if flags is None or reset is None:
            return state
        carried = block.flag(flags.carried, step)
        return [jnp.where(carried, *pair) for pair in zip(state, reset, strict=True)]

    def read(step: jax.Array) -> list[jax.Array]:
        return [block.load(z, block.time(step), gate) for gate in range(NUM_GATES)]

    def run_step(step: jax.Array, carry: Any) -> Any:
        (h, c), zs = carry
        next_read, slot = read(step + 1), lax.rem(step, jnp.int32(2))
        results = multiply_gates(
            memory.kernel, memory.shared.at[slot], block.units, [[(gate, None)] for gate in range(NUM_GATES)]
        )
        i, f, g, o = (z + product for z, product in zip(zs, results, strict=True))
        new_c = sigmoid(f) * entering(step, [h, c])[1] + sigmoid(i) * jnp.tanh(g)
        new_h = sigmoid(o) * jnp.tanh(new_c)
        if flags is not None:
            taken = block.flag(flags.taken, step)
            new_h, new_c = jnp.where(taken, new_h, h), jnp.where(taken, new_c, c)
        write_shared(memory.shared.at[1 - slot], block.units, entering(step + 1, [new_h, new_c])[0])
        arrive(memory)
        for ref, value in zip(outputs, (new_h, new_c), strict=True):  # while others arrive; the gain is not measured
            block.store(ref, value, block.time(step))
        wait(memory)
        return [new_h, new_c], next_read

    state = [block.load(ref) for ref in start]
    write_shared(memory.shared.at[0], block.units, entering(jnp.int32(0), state)[0])
    arrive(memory)
    wait(memory)
    plgpu.barrier_wait(memory.loaded)
    lax.fori_loop(jnp.int32(0), jnp.int32(block.steps), run_step, (state, read(jnp.int32(0))))


def backward(
    coefficients: jax.Array,
    kernel: jax.Array,
    dys: jax.Array,
    dstate: tuple[jax.Array, jax.Array],
    flags: Flags | None,
    *,
    reverse: bool,
    interpret: Any = None,
) -> tuple[jax.Array, list[jax.Array], list[jax.Array]]:
    """Runs back-propagation: the chain of cotangents alone, from the last step read to the first.

        dh += dys    dc += dh_dc dh    dz = (dc_di dc, dc_df dc, dc_dg dc, dh_do dh)    dh = kernel dz    dc = dc_dc dc

    Args:
        coefficients: those of ``cells.lstm.Coefficients`` in their order, ``[T, 6, H, B]``.
        kernel: ``[P 4, H in, H out]``, each gate's transposed against that of ``forward``.
        dys: ``[T, H, B]``.
        dstate: cotangents of the final h and c, ``[H, B]``.
        reverse: as in the forward pass.
    Returns:
        (dz ``[T, 4, H, B]``, those of h and c before the first step read, and, if there are flags, of the reset state)
    """
    time, hidden, batch = dys.shape
    state = jax.ShapeDtypeStruct((hidden, batch), jnp.float32)
    dz = jax.ShapeDtypeStruct((time, NUM_GATES, hidden, batch), jnp.float32)
    outputs = (dz, [state] * 2, [state] * 2 if flags is not None else [])
    shared = (2, len(kernel) // NUM_GATES, NUM_GATES, hidden, BLOCK_SEQUENCES)
    inputs = (coefficients, dys, dstate, flags)
    results: Any = launch(_backward, kernel, inputs, outputs, shared, time, not reverse, interpret)
    return results


def _backward(block: Block, memory: SharedMemory, inputs: Any, outputs: Any) -> None:
    (coefficients, dys, last, flags), (dz_out, first, dreset_out) = inputs, outputs

    def read(step: jax.Array) -> list[jax.Array]:
        at = block.time(step)
        return [block.load(dys, at), *(block.load(coefficients, at, k) for k in range(NUM_COEFFICIENTS))]

    def run_step(step: jax.Array, carry: Any) -> Any:
        (dh, dc), dreset, (dy, dc_di, dc_df, dc_dg, dh_do, dh_dc, dc_dc) = carry
        next_read, slot = read(step + 1), lax.rem(step, jnp.int32(2))
        new_h, new_c = dh + dy, dc
        if flags is not None:
            taken = block.flag(flags.taken, step)
            new_h, new_c = jnp.where(taken, new_h, 0.0), jnp.where(taken, new_c, 0.0)
        new_c = new_c + dh_dc * new_h
        for gate, dz in enumerate((dc_di * new_c, dc_df * new_c, dc_dg * new_c, dh_do * new_h)):
            block.store(
                dz_out, dz, block.time(step), gate
            )  # not after ``arrive``: kept until then, dz spills registers
            write_shared(memory.shared.at[slot], block.units, dz, gate)
        arrive(memory)
        wait(memory)
        all_gates: list[tuple[int, int | None]] = [(gate, gate) for gate in range(NUM_GATES)]
        dprev_state = [*multiply_gates(memory.kernel, memory.shared.at[slot], block.units, [all_gates]), dc_dc * new_c]
        if flags is None:
            return dprev_state, dreset, next_read
        carried = block.flag(flags.carried, step)
        dcarried = [jnp.where(carried, part, 0.0) for part in dprev_state]
        dreset = [total + jnp.where(carried, 0.0, part) for total, part in zip(dreset, dprev_state, strict=True)]
        dkept = [jnp.where(taken, 0.0, part) for part in (dh, dc)]
        return [left + right for left, right in zip(dcarried, dkept, strict=True)], dreset, next_read

    state = [block.load(ref) for ref in last]
    zeros = [0.0 * part for part in state] if flags is not None else []
    plgpu.barrier_wait(memory.loaded)
    carry = (state, zeros, read(jnp.int32(0)))
    state, dreset, _ = lax.fori_loop(jnp.int32(0), jnp.int32(block.steps), run_step, carry)
    for ref, value in zip([*first, *dreset_out], [*state, *dreset], strict=True):
        block.store(ref, value)
