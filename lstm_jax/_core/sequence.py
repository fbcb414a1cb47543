"""The layer over a sequence: check the arguments, complete them, run."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core import checks, engine, implementations, tuning
from lstm_jax._core.implementations import cudnn
from lstm_jax._core.steps import StepFlags, lengths_to_mask, step_flags
from lstm_jax._core.structs import Cell, LSTMParams, LSTMState, PyTree, input_sequence
from lstm_jax.cells.lstm import LSTM
from lstm_jax.cells.lstm import check as lstm_check


def lstm(
    params: LSTMParams,
    xs: jax.Array,
    initial_state: LSTMState | None = None,
    *,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: LSTMState | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
    implementation: str | None = None,
) -> tuple[LSTMState, jax.Array]:
    """Runs an LSTM over a sequence; compiled, differentiable in every mode and order.

        i, f, o = sigmoid(x W + h R + b)    g = tanh(x W + h R + b)    each with its own block of W, R, b
        c' = f * c + i * g                  h' = o * tanh(c')

    Args:
        params: kernels ``[D, 4H]`` and ``[H, 4H]`` and bias ``[4H]``, blocks in the order i, f, g, o.
        xs: inputs ``[T, *batch, D]``: time first, any number of batch axes, none included.
        initial_state: ``h`` and ``c``, each ``[*batch, H]``, before the first step read; None means zeros.
        lengths: integers ``[*batch]``, 0 to T. StepFlags from there on are not taken: the state stays, y is 0, and
            whatever the input holds there, NaN included, reaches no output and no gradient.
        mask: bool ``[T, *batch]``: the same for any pattern of steps taken; give lengths or mask, not both.
        resets: bool ``[T, *batch]``: ``resets[t]`` is a boundary between t-1 and t that no state crosses, in
            either reading direction; the first step taken beyond it starts from ``reset_state``. A flag at a step
            not taken still is a boundary; after the last step taken it does nothing.
        reset_state: broadcasts to the state; None means the zero state.
        reverse: read each sequence from its last taken step to its first; ys keep the order of xs.
        remat: what is kept for the backward pass. "gates": states and pre-activations, the fastest. "states":
            states only, the gates are recomputed a chunk at a time, the smallest at nearly full speed. An integer:
            the state every so many steps, and each segment runs again; near sqrt(T) the memory, beyond inputs and
            outputs, grows like sqrt(T). None: "gates" while T * H is moderate, then "states".
        implementation: "scan" runs everywhere. "mosaic_gpu", one kernel for small layers on NVIDIA GPUs from Hopper on,
            and "cudnn", float32 and first derivatives only, run what they can and refuse the rest; see ``explain``.
            None: of those that lack nothing, the fastest measured on this device.
    Returns:
        (final_state, ys): the state after the last step taken, each part ``[*batch, H]``; outputs ``[T, *batch, H]``.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    Reference:
        Hochreiter and Schmidhuber 1997; forget gate: Gers, Schmidhuber and Cummins 2000.
    """
    checks.check_remat(remat)
    call = check_call(LSTM, params, xs, initial_state, lengths, mask, resets, reset_state, reverse)
    name = implementations.resolve(implementation, _asked(call, implementation, remat))
    if name == "cudnn":
        return _run_cudnn(reverse, call)
    if name == "scan":
        return _run(LSTM, reverse, remat, _loop(), call)
    from lstm_jax._core.implementations import mosaic_gpu

    return _run(LSTM, reverse, remat, mosaic_gpu.LOOP, call)


def explain(
    params: LSTMParams,
    xs: jax.Array,
    initial_state: LSTMState | None = None,
    *,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: LSTMState | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
    implementation: str | None = None,
) -> str:
    """Which implementation ``lstm`` runs for these arguments on the default device, and why each other does not.

    Returns:
        a line for each; the arguments are those of ``lstm``.
    Raises:
        ValueError: as ``lstm`` does.
    """
    checks.check_remat(remat)
    call = check_call(LSTM, params, xs, initial_state, lengths, mask, resets, reset_state, reverse)
    return implementations.describe(implementation, _asked(call, implementation, remat))


def _asked(call: "Call", name: str | None, remat: str | int | None) -> implementations.CallSpec:
    if name is not None:
        checks.check_name("implementation", name, tuple(implementations.TABLE))
    return implementations.CallSpec(call.xs, call.params.bias.shape[0] // 4, call.mask, call.resets, remat)


def unroll(
    cell: Cell,
    params: PyTree,
    xs: jax.Array,
    initial_state: PyTree | None = None,
    *,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> tuple[PyTree, PyTree]:
    """Runs any cell over a sequence; arguments, results and semantics are those of ``lstm``.

    Args:
        cell: for example ``cells.GRU``; one object a program, since its identity is part of what is compiled.
        xs: ``[T, *batch, D]``, or ``Inputs`` for cells that read more at each step.
        params: whatever the cell's functions take.
    """
    checks.check_remat(remat)
    call = check_call(cell, params, xs, initial_state, lengths, mask, resets, reset_state, reverse)
    return _run(cell, reverse, remat, _loop(), call)


def _loop() -> engine.Loop:
    return engine.scan_loop(tuning.scan_config(jax.default_backend()))


@jax.jit
def lstm_cell(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    """One step of the LSTM; with ``params`` bound by ``functools.partial`` it is a body for ``jax.lax.scan``.

    Args:
        params: as for ``lstm``.
        state: ``h`` and ``c``, each ``[*batch, H]``; see ``zero_state``.
        x: ``[*batch, D]``.
    Returns:
        (state, y): the next state, and the output, which is its ``h``.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    if not isinstance(x, jax.Array) or x.ndim < 1:
        raise ValueError(f"x: got {getattr(x, 'shape', type(x).__name__)}, want an array [*batch, D]")
    lstm_check(params, x, "x")
    zeros = jax.eval_shape(lambda: LSTM.zero_state(params, x.shape[:-1]))
    checks.check_state("state", state, zeros, broadcasts=False)
    return engine.step(LSTM, params, state, x)


class Call(NamedTuple):
    """The arrays of a call, check_call against each other."""

    params: PyTree
    xs: jax.Array
    initial_state: PyTree | None
    lengths: jax.Array | None
    mask: jax.Array | None
    resets: jax.Array | None
    reset_state: PyTree | None


def check_call(
    cell: Cell,
    params: PyTree,
    xs: jax.Array,
    initial_state: PyTree | None,
    lengths: jax.Array | None,
    mask: jax.Array | None,
    resets: jax.Array | None,
    reset_state: PyTree | None,
    reverse: bool,
) -> Call:
    """The arguments as arrays, or ValueError naming the one that is wrong."""
    checks.check_type("cell", cell, Cell, "for example cells.GRU, or CELLS[name]")
    checks.check_type("reverse", reverse, bool, "a Python value, since it decides what is compiled")
    checks.check_exclusive(lengths, mask, resets, reset_state)
    checks.check_sequence(xs, cell.num_spatial_dims)
    params, xs, initial_state, reset_state = jax.tree.map(_as_jax, (params, xs, initial_state, reset_state))
    lengths, mask, resets = map(_as_array, (lengths, mask, resets))
    cell.check(params, xs)
    shape = input_sequence(xs).shape
    steps, *batch = shape[: -1 - cell.num_spatial_dims]
    zeros = jax.eval_shape(lambda: cell.zero_state(params, shape[1:-1]))
    if initial_state is not None:
        checks.check_state("initial_state", initial_state, zeros, broadcasts=False)
    if reset_state is not None:
        checks.check_state("reset_state", reset_state, zeros, broadcasts=True)
    if lengths is not None:
        checks.check_lengths(lengths, tuple(batch), steps)
    for name, flags in (("mask", mask), ("resets", resets)):
        if flags is not None:
            checks.check_flags(name, flags, (steps, *batch))
    return Call(params, xs, initial_state, lengths, mask, resets, reset_state)


def complete(cell: Cell, call: Call, reverse: bool) -> tuple[PyTree, StepFlags, PyTree]:
    """The state before the first step read, what happens at each step, and the state that resets give, if any do."""
    shape = input_sequence(call.xs).shape
    zeros = cell.zero_state(call.params, shape[1:-1])
    state = zeros if call.initial_state is None else call.initial_state
    mask, reset_state = call.mask, call.reset_state
    if call.lengths is not None:
        mask = lengths_to_mask(call.lengths, shape[0])
    if reset_state is not None:
        reset_state = jax.tree.map(lambda leaf, zero: jnp.broadcast_to(leaf, zero.shape), reset_state, zeros)
    elif mask is not None or call.resets is not None:
        reset_state = zeros
    return state, step_flags(mask, call.resets, reverse=reverse), reset_state


def step_shapes(cell: Cell, call: Call) -> tuple[PyTree, PyTree]:
    """What a step returns, (state, y) as shapes, check_call."""
    zeros = cell.zero_state(call.params, input_sequence(call.xs).shape[1:-1])
    state = zeros if call.initial_state is None else call.initial_state

    def over_time(leaf: jax.Array) -> jax.Array:
        return leaf.sum(axis=0, dtype=leaf.dtype)  # of no length too, and sharded as a step is

    step = jax.eval_shape(lambda xs: engine.step(cell, call.params, state, jax.tree.map(over_time, xs)), call.xs)
    checks.check_cell_output(zeros, step)
    return step


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(cell: Cell, reverse: bool, remat: str | int | None, loop: engine.Loop, call: Call) -> tuple[PyTree, PyTree]:
    """Completes the arguments and runs the engine: the one compiled function behind every call."""
    state, steps, reset_state = complete(cell, call, reverse)
    after, y = step_shapes(cell, call)
    params, xs = call.params, call.xs
    if input_sequence(xs).shape[0] == 0:
        return state, jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), y)
    state, reset_state = _shard_alike((state, reset_state), after)
    params, xs, state, steps, reset_state = _vary_alike((params, xs, state, steps, reset_state))
    return engine.run(
        cell, cell.prepare(params), xs, state, steps, reset_state, reverse=reverse, remat=remat, loop=loop
    )


@partial(jax.jit, static_argnums=0)
def _run_cudnn(reverse: bool, call: Call) -> tuple[LSTMState, jax.Array]:
    state, _, _ = complete(LSTM, call, reverse)
    return cudnn.run(call.params, call.xs, state, call.lengths, reverse=reverse)


def _shard_alike(states: tuple[PyTree, ...], after: PyTree) -> tuple[PyTree, ...]:
    """On a mesh with explicit axes, shards states as a step leaves them, since a loop's carry keeps its sharding."""

    def shard(leaf: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
        return leaf if like.sharding is None else jax.sharding.reshard(leaf, like.sharding)

    return tuple(None if state is None else jax.tree.map(shard, state, after) for state in states)


def _vary_alike(arrays: PyTree) -> PyTree:
    """Inside ``jax.shard_map``, lets all arrays vary over the mesh axes that any of them varies over.

    A loop's carry must not change what it varies over; and the parameters' gradient is then reduced once, here,
    instead of once a chunk.
    """
    axes = {axis for leaf in jax.tree.leaves(arrays) for axis in jax.typeof(leaf).manual_axis_type.varying}

    def widen(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - jax.typeof(leaf).manual_axis_type.varying))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(widen, arrays)


def _as_jax(leaf: Any) -> Any:
    """What is not a number at all stays, for the cell's check to name."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic | int | float) else leaf


def _as_array(array: Any) -> Any:
    """Host data stays on the host, where its values can be checked without waiting for a device."""
    return array if array is None or isinstance(array, jax.Array) else np.asarray(array)
