"""A persistent LSTM for NVIDIA GPUs from Hopper on: the loop over time inside one kernel, by Pallas Mosaic GPU.

A block takes ``COLUMNS`` sequences and keeps the recurrent kernel in shared memory from the first step to the last;
blocks never wait for each other. Everything lies transposed, units in rows and sequences in columns, so that the
units fill the 64 rows of a matrix instruction however few the sequences are. A group of four warps has 64 units: it
computes the pre-activations of all four gates, hence the gates' maths stays in its registers, with c, from step to
step. Only what the product of the next step reads, h, and in the backward kernel dz, goes through shared memory, twice
buffered; one barrier a step tells the groups that it is complete. The step after is loaded while one is computed.

Letters: P parts, 4 gates, H units (a multiple of 64), B sequences (a multiple of ``COLUMNS``), T steps. The kernel and
h are bfloat16, in P = 1 part. Float32 is P = 2, a high and a low part, of which three products are summed (Markidis et
al. 2018, arXiv:1803.04014): errors near 2^-16, where one product in TF32 has 2^-11. All else is float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import mosaic_gpu

from lstm_jax._core.implementations.layout import COLUMNS, GATES
from lstm_jax._core.implementations.warps import Block, Flags, Memory, launch, put, sigmoid, sums, tell, wait

plgpu: Any = mosaic_gpu
COEFFICIENTS = 6


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
    """The states after each step.

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
    shared = (2, len(kernel) // GATES, hidden, COLUMNS)
    inputs = (z, state, flags, reset)
    found: list[jax.Array] = launch(_forward, kernel, inputs, states, shared, time, reverse, interpret)
    return found


def _forward(block: Block, memory: Memory, inputs: Any, outputs: Any) -> None:
    z, start, flags, resets = inputs
    again = None if resets is None else [block.load(one) for one in resets]

    def entering(step: jax.Array, state: list[jax.Array]) -> list[jax.Array]:
        if flags is None or again is None:
            return state
        carried = block.flag(flags.carried, step)
        return [jnp.where(carried, one, other) for one, other in zip(state, again, strict=True)]

    def read(step: jax.Array) -> list[jax.Array]:
        return [block.load(z, block.time(step), gate) for gate in range(GATES)]

    def take(step: jax.Array, carry: Any) -> Any:
        (h, c), zs = carry
        ahead, slot = read(step + 1), lax.rem(step, jnp.int32(2))
        found = sums(memory.kernel, memory.shared.at[slot], block.units, [[(gate, None)] for gate in range(GATES)])
        i, f, g, o = (z + product for z, product in zip(zs, found, strict=True))
        new_c = sigmoid(f) * entering(step, [h, c])[1] + sigmoid(i) * jnp.tanh(g)
        new_h = sigmoid(o) * jnp.tanh(new_c)
        if flags is not None:
            taken = block.flag(flags.taken, step)
            new_h, new_c = jnp.where(taken, new_h, h), jnp.where(taken, new_c, c)
        put(memory.shared.at[1 - slot], block.units, entering(step + 1, [new_h, new_c])[0])
        tell(memory)
        for ref, value in zip(outputs, (new_h, new_c), strict=True):  # while others arrive; the gain is not measured
            block.store(ref, value, block.time(step))
        wait(memory)
        return [new_h, new_c], ahead

    state = [block.load(one) for one in start]
    put(memory.shared.at[0], block.units, entering(jnp.int32(0), state)[0])
    tell(memory)
    wait(memory)
    plgpu.barrier_wait(memory.loaded)
    lax.fori_loop(jnp.int32(0), jnp.int32(block.steps), take, (state, read(jnp.int32(0))))


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
    """The chain of cotangents alone, from the last step read to the first.

        dh += dys    dc += by_c dh    dz = (by_i dc, by_f dc, by_g dc, by_o dh)    dh = kernel dz    dc = kept dc

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
    one = jax.ShapeDtypeStruct((hidden, batch), jnp.float32)
    dz = jax.ShapeDtypeStruct((time, GATES, hidden, batch), jnp.float32)
    outputs = (dz, [one] * 2, [one] * 2 if flags is not None else [])
    shared = (2, len(kernel) // GATES, GATES, hidden, COLUMNS)
    inputs = (coefficients, dys, dstate, flags)
    found: Any = launch(_backward, kernel, inputs, outputs, shared, time, not reverse, interpret)
    return found


def _backward(block: Block, memory: Memory, inputs: Any, outputs: Any) -> None:
    (coefficients, dys, last, flags), (dz_out, first, dreset_out) = inputs, outputs

    def read(step: jax.Array) -> list[jax.Array]:
        at = block.time(step)
        return [block.load(dys, at), *(block.load(coefficients, at, k) for k in range(COEFFICIENTS))]

    def take(step: jax.Array, carry: Any) -> Any:
        (dh, dc), dreset, (dy, by_i, by_f, by_g, by_o, by_c, kept) = carry
        ahead, slot = read(step + 1), lax.rem(step, jnp.int32(2))
        new_h, new_c = dh + dy, dc
        if flags is not None:
            taken = block.flag(flags.taken, step)
            new_h, new_c = jnp.where(taken, new_h, 0.0), jnp.where(taken, new_c, 0.0)
        new_c = new_c + by_c * new_h
        for gate, dz in enumerate((by_i * new_c, by_f * new_c, by_g * new_c, by_o * new_h)):
            block.store(dz_out, dz, block.time(step), gate)  # not behind ``tell``: kept until then, dz spills registers
            put(memory.shared.at[slot], block.units, dz, gate)
        tell(memory)
        wait(memory)
        every: list[tuple[int, int | None]] = [(gate, gate) for gate in range(GATES)]
        entered = [*sums(memory.kernel, memory.shared.at[slot], block.units, [every]), kept * new_c]
        if flags is None:
            return entered, dreset, ahead
        carried = block.flag(flags.carried, step)
        passed = [jnp.where(carried, one, 0.0) for one in entered]
        dreset = [total + jnp.where(carried, 0.0, one) for total, one in zip(dreset, entered, strict=True)]
        stayed = [jnp.where(taken, 0.0, one) for one in (dh, dc)]
        return [one + other for one, other in zip(passed, stayed, strict=True)], dreset, ahead

    state = [block.load(one) for one in last]
    nothing = [0.0 * one for one in state] if flags is not None else []
    plgpu.barrier_wait(memory.loaded)
    carry = (state, nothing, read(jnp.int32(0)))
    state, dreset, _ = lax.fori_loop(jnp.int32(0), jnp.int32(block.steps), take, carry)
    for ref, value in zip([*first, *dreset_out], [*state, *dreset], strict=True):
        block.store(ref, value)
