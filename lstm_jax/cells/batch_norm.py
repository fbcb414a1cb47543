"""The batch-normalized LSTM of Cooijmans et al. 2017 (arXiv:1603.09025), with statistics of its own for each step.

    a = s_x * N(x W) + s_h * N(h R) + b           N(v) = (v - mean) / sqrt(variance + 1e-5)
    c' = f * c + i * g
    h' = o * tanh(s_c * N(c') + b_c)

Mean and variance belong to the number of the step in its sequence, since the first steps of a run from the zero state
are unlike the later ones; the statistics of the last step that has some serve all steps after it. The state counts the
steps, so a reset begins anew and a run in pieces goes on.

``BATCH_NORM_LSTM`` is the cell of evaluation: it takes the statistics from its parameters, where rows do not see each
other. ``batch_norm_train`` normalizes by the rows of the batch at hand, which mixes them: a plain scan of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.checks import check_array, check_lengths, check_sequence, check_state, make_params_check
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax._core.structs import Cell, PyTree, accumulator_dtype
from lstm_jax.cells import lstm
from lstm_jax.cells.dense import add_bias, matmul, prepare_kernel
from lstm_jax.cells.gates import apply_gates, new_memory
from lstm_jax.cells.layer_norm import AXES, EPSILON, scaled
from lstm_jax.cells.lstm import STANDARD_GATES
from lstm_jax.initializers import cell_init, forget_bias, init_kernels


class Moments(NamedTuple):
    """Mean and variance over rows."""

    mean: jax.Array
    """``[..., M]``"""
    variance: jax.Array
    """``[..., M]``"""


class BatchNormParams(NamedTuple):
    """Parameters of one layer, blocks i, f, g, o, and the statistics of the first ``S`` steps of a sequence."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    input_scale: jax.Array
    """``[4H]``: s_x"""
    recurrent_scale: jax.Array
    """``[4H]``: s_h"""
    memory_scale: jax.Array
    """``[H]``: s_c"""
    memory_bias: jax.Array
    """``[H]``: b_c"""
    input_mean: jax.Array
    """``[S, 4H]``, of x W"""
    input_variance: jax.Array
    """``[S, 4H]``"""
    recurrent_mean: jax.Array
    """``[S, 4H]``, of h R"""
    recurrent_variance: jax.Array
    """``[S, 4H]``"""
    memory_mean: jax.Array
    """``[S, H]``, of c'"""
    memory_variance: jax.Array
    """``[S, H]``"""


class BatchNormState(NamedTuple):
    """State between two steps."""

    h: jax.Array
    """``[*batch, H]``, the output; dtype of the parameters"""
    c: jax.Array
    """``[*batch, H]``, the memory"""
    step: jax.Array
    """``[*batch, 1]``: how many steps of the sequence were taken, a whole number"""


Statistics = dict[str, Moments]
"""By what is normalized, "input", "recurrent" and "memory": moments ``[T, M]`` of a batch at each step."""


def standardize(v: jax.Array, moments: Moments) -> jax.Array:
    """``(v - mean) / sqrt(variance + 1e-5)``, in the dtype of ``v [..., M]``."""
    mean, variance = (lax.broadcast_to_rank(moment.astype(v.dtype), v.ndim) for moment in moments)
    return (v - mean) * lax.rsqrt(variance + EPSILON)


def project(params: BatchNormParams, x: jax.Array) -> jax.Array:
    """``x W``; it is normalized beside h R, where the number of the step is known."""
    return lstm.project(params, x)


def recur(params: BatchNormParams, z: jax.Array, state: BatchNormState) -> jax.Array:
    """The normalized pre-activations ``[..., 4H]``."""
    moments = _moments_at(params, state.step)
    return _preactivations(params, z, matmul(state.h, params.recurrent_kernel), moments["input"], moments["recurrent"])


def update(params: BatchNormParams, a: jax.Array, state: BatchNormState) -> tuple[BatchNormState, jax.Array]:
    """Gates and memory; the output reads the normalized memory, the next step the memory itself."""
    o, c = _memory(a, state)
    return _output(params, o, c, _moments_at(params, state.step)["memory"], state)


def zero_state(params: BatchNormParams, batch_shape: tuple[int, ...] = ()) -> BatchNormState:
    """``h = c = 0`` at the first step of a sequence."""
    kernel = params.recurrent_kernel
    zeros = jnp.zeros((*batch_shape, kernel.shape[0]), accumulator_dtype(kernel.dtype))
    return BatchNormState(zeros.astype(kernel.dtype), zeros, zeros[..., :1])


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype, *, max_steps: int = 1) -> BatchNormParams:
    """Draws kernels and bias as the LSTM's default scheme does; scales are 0.1 as in the paper.

    The statistics start with mean 0 and variance 1.

    Args:
        max_steps: ``S``, how many steps have statistics of their own; the longest sequence of training.
    """
    scale_4h, scale_h = jnp.full(4 * hidden_size, 0.1, dtype), jnp.full(hidden_size, 0.1, dtype)
    zeros_4h, zeros_h = jnp.zeros((max_steps, 4 * hidden_size), dtype), jnp.zeros((max_steps, hidden_size), dtype)
    statistics = (zeros_4h, zeros_4h + 1, zeros_4h, zeros_4h + 1, zeros_h, zeros_h + 1)
    kernels = init_kernels(key, input_size, hidden_size, dtype)
    return BatchNormParams(
        *kernels, forget_bias(hidden_size, dtype), scale_4h, scale_4h, scale_h, 0 * scale_h, *statistics
    )


STATISTICS = ("input", "recurrent", "memory")
check = make_params_check(
    BatchNormParams,
    **AXES,
    input_scale="4H",
    recurrent_scale="4H",
    input_mean="S 4H",
    input_variance="S 4H",
    recurrent_mean="S 4H",
    recurrent_variance="S 4H",
    memory_mean="S H",
    memory_variance="S H",
)
BATCH_NORM_LSTM = Cell(
    init=init,
    project=project,
    recur=recur,
    update=update,
    zero_state=zero_state,
    prepare=prepare_kernel,
    check=check,
    gates=lstm.gates,
)


def batch_norm_train(
    params: BatchNormParams,
    xs: jax.Array,
    initial_state: BatchNormState | None = None,
    *,
    lengths: jax.Array | None = None,
) -> tuple[BatchNormState, jax.Array, Statistics]:
    """Runs the batch-normalized LSTM as in training: normalized by the rows of the batch, whose moments are returned.

    It is a plain scan, not the engine, which keeps rows apart. Store the moments with ``update_statistics``; the stored
    ones are not read here. Neither get a gradient.

    Args:
        params: of ``BATCH_NORM_LSTM``.
        xs: inputs ``[T, B, D]``, one batch axis.
        initial_state: None means zeros; ``step`` is counted on.
        lengths: integers ``[B]``; steps from there on are not taken and do not count among the rows.
    Returns:
        (final_state, ys ``[T, B, H]``, statistics): moments of each step; at a step that no row takes mean 0,
        variance 0.
    Raises:
        ValueError: naming the argument.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.cells.BATCH_NORM_LSTM.init(jax.random.key(0), 3, 8, max_steps=5)
        >>> state, ys, statistics = lj.cells.batch_norm_train(params, jnp.ones((5, 2, 3)))
        >>> params = lj.cells.update_statistics(params, statistics)
    """
    check_sequence(xs)
    check(params, xs)
    if xs.ndim != 3:
        raise ValueError(f"xs: got shape {xs.shape}, want [T, B, D]: the rows of one batch axis give the statistics")
    if initial_state is not None:
        zeros = jax.eval_shape(lambda: zero_state(params, xs.shape[1:2]))
        check_state("initial_state", initial_state, zeros, broadcasts=False)
    if lengths is not None:
        check_lengths(lengths, xs.shape[1:2], xs.shape[0])
    return _train(params, xs, initial_state, lengths)


@jax.jit
def _train(
    params: BatchNormParams, xs: jax.Array, state: BatchNormState | None, lengths: jax.Array | None
) -> tuple[BatchNormState, jax.Array, Statistics]:
    steps, rows, _ = xs.shape
    taken = jnp.ones((steps, rows), bool) if lengths is None else lengths_to_mask(lengths, steps)
    taken = taken[..., None]

    def step(state: BatchNormState, inputs: tuple) -> tuple[BatchNormState, tuple[jax.Array, Statistics]]:
        z, taken = inputs
        r = matmul(state.h, params.recurrent_kernel)
        moments = {"input": _moments(z, taken), "recurrent": _moments(r, taken)}
        o, c = _memory(_preactivations(params, z, r, moments["input"], moments["recurrent"]), state)
        moments["memory"] = _moments(c, taken)
        new, y = _output(params, o, c, moments["memory"], state)
        new = jax.tree.map(lambda new, old: jnp.where(taken, new, old), new, state)
        return new, (jnp.where(taken, y, jnp.zeros_like(y)), moments)

    start = zero_state(params, (rows,)) if state is None else state
    zs = project(params, jnp.where(taken, xs, jnp.zeros_like(xs)))
    final, (ys, statistics) = lax.scan(step, start, (zs, taken))
    return final, ys, statistics


def update_statistics(params: BatchNormParams, statistics: Statistics, momentum: float = 0.9) -> BatchNormParams:
    """Updates the running moments in the parameters, step by step.

    Args:
        params: of ``BATCH_NORM_LSTM``.
        statistics: of ``batch_norm_train`` from the start of its sequences; as many steps as both have are updated.
        momentum: the share of the old moments in the new ones; the rest is that of ``statistics``.
    Returns:
        the parameters with new moments.
    Raises:
        ValueError: statistics of another size.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.cells.BATCH_NORM_LSTM.init(jax.random.key(0), 3, 8, max_steps=5)
        >>> _, _, statistics = lj.cells.batch_norm_train(params, jnp.ones((5, 2, 3)))
        >>> params = lj.cells.update_statistics(params, statistics, momentum=0.99)
    """
    new = {}
    for name, moments in statistics.items():
        for kind, moment in moments._asdict().items():
            old = getattr(params, f"{name}_{kind}")
            check_array(f"statistics[{name!r}].{kind}", moment, (len(moment), *old.shape[1:]))
            num_steps = min(len(old), len(moment))
            mixed = momentum * old[:num_steps] + (1 - momentum) * moment[:num_steps].astype(old.dtype)
            new[f"{name}_{kind}"] = lax.stop_gradient(old.at[:num_steps].set(mixed))
    return params._replace(**new)


def _moments_at(params: BatchNormParams, step: jax.Array) -> Statistics:
    """The stored moments at a step ``[..., 1]`` of the sequence, each ``[..., M]``; they have no derivative."""
    index = jnp.clip(lax.stop_gradient(step)[..., 0].astype(jnp.int32), 0, len(params.input_mean) - 1)
    fields: PyTree = lax.stop_gradient(params._asdict())
    return {name: Moments(fields[f"{name}_mean"][index], fields[f"{name}_variance"][index]) for name in STATISTICS}


def _preactivations(
    params: BatchNormParams, z: jax.Array, r: jax.Array, z_moments: Moments, r_moments: Moments
) -> jax.Array:
    inputs = scaled(standardize(z, z_moments), params.input_scale)
    return add_bias(inputs + scaled(standardize(r, r_moments), params.recurrent_scale), params.bias)


def _memory(a: jax.Array, state: BatchNormState) -> tuple[jax.Array, jax.Array]:
    """The output gate and the new memory."""
    gates = apply_gates(STANDARD_GATES, a)
    return gates["o"], new_memory(STANDARD_GATES, gates, state.c)


def _output(
    params: BatchNormParams, o: jax.Array, c: jax.Array, moments: Moments, state: BatchNormState
) -> tuple[BatchNormState, jax.Array]:
    normalized = add_bias(scaled(standardize(c, moments), params.memory_scale), params.memory_bias)
    h = (o * jnp.tanh(normalized)).astype(state.h.dtype)
    return BatchNormState(h, c, state.step + 1), h


def _moments(v: jax.Array, taken: jax.Array) -> Moments:
    """Over the rows ``[B, M]`` that take the step, ``[B, 1]``."""
    count = jnp.maximum(jnp.sum(taken), 1).astype(v.dtype)
    mean = jnp.sum(jnp.where(taken, v, 0.0), axis=0) / count
    centered = jnp.where(taken, v - lax.broadcast_to_rank(mean, v.ndim), 0.0)
    return Moments(mean, jnp.sum(centered * centered, axis=0) / count)
