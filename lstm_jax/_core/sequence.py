"""The layer over a sequence: check the arguments, complete them, run."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core import checks, engine, tuning
from lstm_jax._core.call import Call, check_call, complete_call, step_shapes, to_jax, zero_state_shapes
from lstm_jax._core.implementations.spec import CallSpec
from lstm_jax._core.implementations.table import TABLE, Implementation, choose, describe
from lstm_jax._core.structs import (
    ArrayLike,
    Cell,
    Inputs,
    LSTMParams,
    LSTMState,
    PyTree,
    SequenceOptions,
    input_sequence,
)
from lstm_jax.cells.lstm import LSTM


def lstm(
    params: LSTMParams,
    xs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
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
        lengths: integers ``[*batch]``, the number of valid steps of each sequence, 0 to T. At later steps the state is
            kept and y is 0; what the input holds there, NaN included, reaches no output and no gradient.
        mask: bool ``[T, *batch]``, True at the steps to take, in any pattern; give at most one of lengths and mask.
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
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), input_size=3, hidden_size=8)
        >>> final_state, ys = lj.lstm(params, jnp.ones((5, 2, 3)), lengths=jnp.array([5, 3]))
        >>> ys.shape, final_state.h.shape
        ((5, 2, 8), (2, 8))
    """
    options = SequenceOptions(lengths, mask, resets, reset_state, reverse, remat, implementation)
    call = check_call(LSTM, params, xs, initial_state, options)
    name, _ = choose(implementation, _call_spec(call, remat))
    return run(StaticArgs(LSTM, TABLE[name], reverse, remat, _scan_configs()), call)


def explain(
    params: LSTMParams,
    xs: ArrayLike,
    initial_state: LSTMState | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: LSTMState | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
    implementation: str | None = None,
) -> str:
    """Tells which implementation ``lstm`` runs for these arguments on the default device, and why each other does not.

    Args:
        params: parameters of the LSTM.
        xs: inputs ``[T, *batch, D]``.
        initial_state: the state before the first step read; None means zeros.
        lengths: integers ``[*batch]``, 0 to T; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; give at most one of lengths and mask.
        resets: bool ``[T, *batch]``, boundaries that no state crosses; None means none.
        reset_state: the state that a step after a boundary starts from; None means the zero state.
        reverse: whether each sequence is read from its last taken step to its first.
        remat: what is kept for the backward pass, "gates", "states" or a number of steps, as for ``lstm``.
        implementation: how the loop over time is run, by name, as for ``lstm``; None chooses.
    Returns:
        a line for each implementation.
    Raises:
        ValueError: as ``lstm`` does.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), input_size=3, hidden_size=8)
        >>> print(lj.explain(params, jnp.ones((5, 3))).splitlines()[0])
        scan         runs: no measurement says that another is faster here
    """
    options = SequenceOptions(lengths, mask, resets, reset_state, reverse, remat, implementation)
    call = check_call(LSTM, params, xs, initial_state, options)
    return describe(implementation, _call_spec(call, remat))


def unroll(
    cell: Cell,
    params: PyTree,
    xs: ArrayLike | Inputs,
    initial_state: PyTree | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> tuple[PyTree, PyTree]:
    """Runs any cell over a sequence, with the options and the meaning of ``lstm``.

    Args:
        cell: one of ``cells.CELLS``, or your own. Make it once: its identity is part of what is compiled.
        params: what the cell's functions take; ``cell.init`` draws them.
        xs: inputs ``[T, *batch, D]``, or ``Inputs`` for a cell that reads more at each step.
        initial_state: the state before the first step read; None means ``cell.zero_state``.
        lengths: integers ``[*batch]``, 0 to T; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; give at most one of lengths and mask.
        resets: bool ``[T, *batch]``, boundaries that no state crosses; None means none.
        reset_state: the state that a step after a boundary starts from; None means the zero state.
        reverse: whether each sequence is read from its last taken step to its first.
        remat: what is kept for the backward pass, "gates", "states" or a number of steps, as for ``lstm``.
    Returns:
        (final_state, ys): the state after the last step taken; the cell's outputs ``[T, *batch, ...]``.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> gru = lj.cells.CELLS["gru"]
        >>> params = gru.init(jax.random.key(0), input_size=3, hidden_size=8)
        >>> h, ys = lj.unroll(gru, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    options = SequenceOptions(lengths, mask, resets, reset_state, reverse, remat)
    call = check_call(cell, params, xs, initial_state, options)
    return run(StaticArgs(cell, TABLE["scan"], reverse, remat, _scan_configs()), call)


def lstm_cell(params: LSTMParams, state: LSTMState, x: ArrayLike) -> tuple[LSTMState, jax.Array]:
    """Runs one step of the LSTM; with ``params`` bound by ``functools.partial`` it is a body for ``jax.lax.scan``.

    Args:
        params: as for ``lstm``.
        state: ``h`` and ``c``, each ``[*batch, H]``; see ``zero_state``.
        x: ``[*batch, D]``.
    Returns:
        (state, y): the next state, and the output, which is its ``h``.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), input_size=3, hidden_size=8)
        >>> state, y = lj.lstm_cell(params, lj.zero_state(params, (2,)), jnp.ones((2, 3)))
        >>> y.shape
        (2, 8)
    """
    return _lstm_step(*to_jax((params, state, x)))


@jax.jit
def _lstm_step(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    if not isinstance(x, jax.Array) or x.ndim < 1:
        raise ValueError(f"x: got {getattr(x, 'shape', type(x).__name__)}, want an array [*batch, D]")
    LSTM.check(params, x, "x")  # type: ignore[call-arg]
    checks.check_state("state", state, zero_state_shapes(LSTM, params, x.shape[:-1]), broadcasts=False)
    return engine.step(LSTM, params, state, x)


class StaticArgs(NamedTuple):
    """The static arguments of ``run``; another value compiles again."""

    cell: Cell
    implementation: Implementation
    reverse: bool
    remat: str | int | None
    scan_configs: tuple[tuple[str, tuning.ScanConfig], ...]


@partial(jax.jit, static_argnums=0)
def run(static: StaticArgs, call: Call) -> tuple[PyTree, PyTree]:
    """Completes the arguments and runs them: the one compiled function that every call goes through."""
    cell, implementation = static.cell, static.implementation
    state, flags, reset_state = complete_call(cell, call, static.reverse)
    if implementation.run is not None:
        return implementation.run(call.params, call.xs, state, call.lengths, reverse=static.reverse)
    new_state, y = step_shapes(cell, call, state)
    shape, width = input_sequence(call.xs).shape, jax.tree.leaves(state)[0].shape[-1]
    if shape[0] == 0:
        return state, jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), y)
    state, reset_state = _match_sharding((state, reset_state), new_state)
    params, *operands = _match_varying_axes((call.params, call.xs, flags, state, reset_state))
    remat = tuning.choose_remat(shape[0], width) if static.remat is None else static.remat
    config = engine.LoopConfig(cell, static.reverse, remat if isinstance(remat, str) else "gates")
    recurrence: Any = engine.recurrence
    if not isinstance(remat, str):
        recurrence = partial(engine.recurrence_in_segments, remat)
    assert implementation.plans is not None
    plans = implementation.plans(config, dict(static.scan_configs), shape, width)
    by_platform = {platform: partial(recurrence, plan) for platform, plan in plans.items()}
    with jax.named_scope("recurrent_layer"):
        final, ys, _ = jax.lax.platform_dependent(cell.prepare(params), *operands, **by_platform)
    return final, ys


def _call_spec(call: Call, remat: str | int | None) -> CallSpec:
    return CallSpec(call.xs, call.params.bias.shape[0] // 4, call.mask, call.resets, remat)


def _scan_configs() -> tuple[tuple[str, tuning.ScanConfig], ...]:
    return tuple(tuning.SCAN_CONFIGS.items())  # static, so that a changed table compiles again


def _match_sharding(states: tuple[PyTree, ...], like: PyTree) -> tuple[PyTree, ...]:
    """On a mesh with explicit axes, shards states as a step leaves them, since a loop's carry keeps its sharding."""

    def shard(leaf: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
        return leaf if like.sharding is None else jax.sharding.reshard(leaf, like.sharding)

    return tuple(None if state is None else jax.tree.map(shard, state, like) for state in states)


def _match_varying_axes(arrays: PyTree) -> PyTree:
    """Inside ``jax.shard_map``, lets all arrays vary over the mesh axes that any of them varies over.

    A loop's carry must not change what it varies over; and the parameters' gradient is then reduced once, here,
    instead of once a chunk.
    """
    axes = {axis for leaf in jax.tree.leaves(arrays) for axis in jax.typeof(leaf).manual_axis_type.varying}

    def vary(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - jax.typeof(leaf).manual_axis_type.varying))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary, arrays)
