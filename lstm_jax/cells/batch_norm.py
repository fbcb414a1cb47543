"""The batch-normalized LSTM of Cooijmans et al. 2017 (arXiv:1603.09025), with separate statistics per time step.

    a = s_x * N(x W) + s_h * N(h R) + b           N(v) = (v - mean) / sqrt(variance + 1e-5)
    c' = f * c + i * g
    h' = o * tanh(s_c * N(c') + b_c)

Each of the first S time steps has its own mean and variance, since activations shortly after the zero state are
distributed unlike later ones; later steps use the statistics of step S - 1. The state counts the steps, so a reset
restarts the count and a sequence processed in pieces continues it.

``BATCH_NORM_LSTM`` is for evaluation: it normalizes by the running statistics in its parameters. ``batch_norm_train``
is for training: it normalizes by the statistics of the current batch. It is a separate scan, because the cells of
``unroll`` process each sequence of the batch independently.
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
    """Mean and variance over the sequences of a batch."""

    mean: jax.Array
    """``[..., M]``"""
    variance: jax.Array
    """``[..., M]``"""


class BatchNormParams(NamedTuple):
    """Parameters of one layer, gates in the order i, f, g, o, and running statistics of the first ``S`` time steps."""

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
    """``[S, 4H]``: mean of x W"""
    input_variance: jax.Array
    """``[S, 4H]``: variance of x W"""
    recurrent_mean: jax.Array
    """``[S, 4H]``: mean of h R"""
    recurrent_variance: jax.Array
    """``[S, 4H]``: variance of h R"""
    memory_mean: jax.Array
    """``[S, H]``: mean of c'"""
    memory_variance: jax.Array
    """``[S, H]``: variance of c'"""


class BatchNormState(NamedTuple):
    """The state of the batch-normalized LSTM between two steps."""

    h: jax.Array
    """``[*batch, H]``, the output; dtype of the parameters"""
    c: jax.Array
    """``[*batch, H]``, the memory"""
    step: jax.Array
    """``[*batch, 1]``: steps since the start of the sequence, an integer stored as float"""


Statistics = dict[str, Moments]
"""Batch moments ``[T, M]`` per time step of the quantities "input" (x W), "recurrent" (h R) and "memory" (c')."""


def _standardize(v: jax.Array, moments: Moments) -> jax.Array:
    """``(v - mean) / sqrt(variance + 1e-5)``, in the dtype of ``v [..., M]``."""
    mean, variance = (lax.broadcast_to_rank(moment.astype(v.dtype), v.ndim) for moment in moments)
    return (v - mean) * lax.rsqrt(variance + EPSILON)


def project(params: BatchNormParams, x: jax.Array) -> jax.Array:
    """``x W``, not yet normalized: that takes the step count, which the state holds."""
    return lstm.project(params, x)


def recur(params: BatchNormParams, z: jax.Array, state: BatchNormState) -> jax.Array:
    """``a = s_x * N(x W) + s_h * N(h R) + b``: ``[..., 4H]``."""
    moments = _running_moments(params, state.step)
    return _preactivations(params, z, matmul(state.h, params.recurrent_kernel), moments["input"], moments["recurrent"])


def update(params: BatchNormParams, a: jax.Array, state: BatchNormState) -> tuple[BatchNormState, jax.Array]:
    """``c' = f * c + i * g`` and ``h' = o * tanh(s_c * N(c') + b_c)``; the state keeps c' unnormalized."""
    o, c = _output_gate_and_memory(a, state)
    return _new_state_and_output(params, o, c, _running_moments(params, state.step)["memory"], state)


def zero_state(params: BatchNormParams, batch_shape: tuple[int, ...] = ()) -> BatchNormState:
    """``h = c = 0`` and ``step = 0``."""
    kernel = params.recurrent_kernel
    zeros = jnp.zeros((*batch_shape, kernel.shape[0]), accumulator_dtype(kernel.dtype))
    return BatchNormState(zeros.astype(kernel.dtype), zeros, zeros[..., :1])


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype, *, max_steps: int = 1) -> BatchNormParams:
    """Draws kernels and bias by the LSTM's default scheme, with scales of 0.1 as in the paper.

    Running means start at 0 and running variances at 1.

    Args:
        max_steps: ``S``, the number of time steps with separate statistics; choose the longest training sequence.
    """
    scale_4h, scale_h = jnp.full(4 * hidden_size, 0.1, dtype), jnp.full(hidden_size, 0.1, dtype)
    zeros_4h, zeros_h = jnp.zeros((max_steps, 4 * hidden_size), dtype), jnp.zeros((max_steps, hidden_size), dtype)
    statistics = (zeros_4h, zeros_4h + 1, zeros_4h, zeros_4h + 1, zeros_h, zeros_h + 1)
    kernels = init_kernels(key, input_size, hidden_size, dtype)
    return BatchNormParams(
        *kernels, forget_bias(hidden_size, dtype), scale_4h, scale_4h, scale_h, 0 * scale_h, *statistics
    )


NORMALIZED_NAMES = ("input", "recurrent", "memory")
"""The keys of ``Statistics``, which begin the names of the fields of ``BatchNormParams`` with running statistics."""
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
    """Runs the batch-normalized LSTM in training mode: normalizes by the moments of the batch and returns them.

    Pass the returned moments to ``update_statistics``, which updates the running statistics in ``params``. They are not
    read here, so their gradient is 0.

    Args:
        params: parameters of ``BATCH_NORM_LSTM``.
        xs: inputs ``[T, B, D]`` with exactly one batch axis.
        initial_state: the state before the first step; None means ``zero_state``. Its ``step`` continues the count.
        lengths: integers ``[B]``; steps after a sequence's length are ignored, in the moments too. None means ``T``.
    Returns:
        (final_state, ys, statistics): the state after each sequence's last step, outputs ``[T, B, H]``, and the batch
        moments per time step. Moments are 0 at steps after the longest sequence.
    Raises:
        ValueError: if params, xs, initial_state or lengths have a wrong shape or dtype.
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
    num_steps, batch_size, _ = xs.shape
    mask = jnp.ones((num_steps, batch_size), bool) if lengths is None else lengths_to_mask(lengths, num_steps)
    mask = mask[..., None]

    def step(state: BatchNormState, inputs: tuple) -> tuple[BatchNormState, tuple[jax.Array, Statistics]]:
        z, step_mask = inputs
        r = matmul(state.h, params.recurrent_kernel)
        moments = {"input": _batch_moments(z, step_mask), "recurrent": _batch_moments(r, step_mask)}
        a = _preactivations(params, z, r, moments["input"], moments["recurrent"])
        o, c = _output_gate_and_memory(a, state)
        moments["memory"] = _batch_moments(c, step_mask)
        new_state, y = _new_state_and_output(params, o, c, moments["memory"], state)
        masked_state = jax.tree.map(lambda new, old: jnp.where(step_mask, new, old), new_state, state)
        return masked_state, (jnp.where(step_mask, y, jnp.zeros_like(y)), moments)

    initial_state = zero_state(params, (batch_size,)) if state is None else state
    zs = project(params, jnp.where(mask, xs, jnp.zeros_like(xs)))
    final_state, (ys, statistics) = lax.scan(step, initial_state, (zs, mask))
    return final_state, ys, statistics


def update_statistics(params: BatchNormParams, statistics: Statistics, momentum: float = 0.9) -> BatchNormParams:
    """Updates the running statistics in ``params`` by an exponential moving average, per time step.

    ``running = momentum * running + (1 - momentum) * batch``

    Args:
        params: parameters of ``BATCH_NORM_LSTM``, with running statistics of ``S`` steps.
        statistics: batch moments of ``batch_norm_train`` over ``T`` steps from the start of the sequences. The first
            ``min(S, T)`` steps are updated.
        momentum: the weight of the old running statistics, 0 to 1.
    Returns:
        ``params`` with updated running statistics.
    Raises:
        ValueError: if a moment in ``statistics`` is not ``[T, 4H]`` or ``[T, H]``.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.cells.BATCH_NORM_LSTM.init(jax.random.key(0), 3, 8, max_steps=5)
        >>> _, _, statistics = lj.cells.batch_norm_train(params, jnp.ones((5, 2, 3)))
        >>> params = lj.cells.update_statistics(params, statistics, momentum=0.99)
    """
    updates = {}
    for name, moments in statistics.items():
        for statistic, moment in moments._asdict().items():
            field = f"{name}_{statistic}"
            running = getattr(params, field)
            check_array(f"statistics[{name!r}].{statistic}", moment, (len(moment), *running.shape[1:]))
            num_steps = min(len(running), len(moment))
            average = momentum * running[:num_steps] + (1 - momentum) * moment[:num_steps].astype(running.dtype)
            updates[field] = lax.stop_gradient(running.at[:num_steps].set(average))
    return params._replace(**updates)


def _running_moments(params: BatchNormParams, step: jax.Array) -> Statistics:
    """Selects the running moments ``[..., M]`` at steps ``[..., 1]``; no gradient passes through them."""
    index = jnp.clip(lax.stop_gradient(step)[..., 0].astype(jnp.int32), 0, len(params.input_mean) - 1)
    fields: PyTree = lax.stop_gradient(params._asdict())
    return {
        name: Moments(fields[f"{name}_mean"][index], fields[f"{name}_variance"][index]) for name in NORMALIZED_NAMES
    }


def _preactivations(
    params: BatchNormParams, z: jax.Array, r: jax.Array, z_moments: Moments, r_moments: Moments
) -> jax.Array:
    """``s_x * N(z) + s_h * N(r) + b``, with ``z = x W`` and ``r = h R``."""
    input_term = scaled(_standardize(z, z_moments), params.input_scale)
    recurrent_term = scaled(_standardize(r, r_moments), params.recurrent_scale)
    return add_bias(input_term + recurrent_term, params.bias)


def _output_gate_and_memory(a: jax.Array, state: BatchNormState) -> tuple[jax.Array, jax.Array]:
    """``o`` and ``c' = f * c + i * g``."""
    gates = apply_gates(STANDARD_GATES, a)
    return gates["o"], new_memory(STANDARD_GATES, gates, state.c)


def _new_state_and_output(
    params: BatchNormParams, o: jax.Array, c: jax.Array, moments: Moments, state: BatchNormState
) -> tuple[BatchNormState, jax.Array]:
    """``h' = o * tanh(s_c * N(c') + b_c)``, as the output and in the new state."""
    normalized = add_bias(scaled(_standardize(c, moments), params.memory_scale), params.memory_bias)
    h = (o * jnp.tanh(normalized)).astype(state.h.dtype)
    return BatchNormState(h, c, state.step + 1), h


def _batch_moments(v: jax.Array, mask: jax.Array) -> Moments:
    """Computes mean and variance of ``v [B, M]`` over the sequences where ``mask [B, 1]`` is true."""
    count = jnp.maximum(jnp.sum(mask), 1).astype(v.dtype)
    mean = jnp.sum(jnp.where(mask, v, 0.0), axis=0) / count
    centered = jnp.where(mask, v - lax.broadcast_to_rank(mean, v.ndim), 0.0)
    return Moments(mean, jnp.sum(centered * centered, axis=0) / count)
