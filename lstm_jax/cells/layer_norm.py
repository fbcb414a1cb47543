"""The layer-normalized LSTM, normalized jointly over all gates or per gate.

``N(v) = (v - mean) / sqrt(variance + 1e-5)``, with mean and variance over units.

``LAYER_NORM_LSTM``: joint normalization of Ba, Kiros and Hinton 2016 (arXiv:1607.06450, equations 20 to 22):

    a = s_x * N(x W) + s_h * N(h R) + b           N over all 4H
    h' = o * tanh(s_c * N(c') + b_c)

``GATE_NORM_LSTM``: normalization per gate, as in TensorFlow's ``LayerNormBasicLSTMCell``:

    a_k = s_k * N(x W_k + h R_k) + b_k            N over the H of each gate k
    c' = s_c * N(f * c + i * g) + b_c             the next step reads the normalized c'
    h' = o * tanh(c')
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMState
from lstm_jax.cells import lstm
from lstm_jax.cells.dense import add_bias, matmul, prepare_kernel
from lstm_jax.cells.gates import apply_gates, new_memory
from lstm_jax.cells.lstm import STANDARD_GATES
from lstm_jax.initializers import cell_init, forget_bias, init_kernels, zero_lstm_state

EPSILON = 1e-5
"""Added to the variance, against division by zero."""


class LayerNormParams(NamedTuple):
    """Parameters of one ``LAYER_NORM_LSTM`` layer; gates in the order i, f, g, o."""

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


class GateNormParams(NamedTuple):
    """Parameters of one ``GATE_NORM_LSTM`` layer; gates in the order i, f, g, o."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    scale: jax.Array
    """``[4H]``: s_i, s_f, s_g, s_o"""
    memory_scale: jax.Array
    """``[H]``: s_c"""
    memory_bias: jax.Array
    """``[H]``: b_c"""


def normalize(v: jax.Array) -> jax.Array:
    """Normalizes to mean 0 and variance 1 over the last axis."""
    centered = v - jnp.mean(v, axis=-1, keepdims=True)
    return centered * lax.rsqrt(jnp.mean(centered * centered, axis=-1, keepdims=True) + EPSILON)


def scaled(v: jax.Array, scale: jax.Array) -> jax.Array:
    """Computes ``scale [M] * v [..., M]`` in the dtype of ``v``.

    Args:
        v: ``[..., M]``.
        scale: ``[M]``.
    """
    return v * lax.broadcast_to_rank(scale.astype(v.dtype), v.ndim)


def _normalize_memory(params: LayerNormParams | GateNormParams, c: jax.Array) -> jax.Array:
    """``s_c * N(c) + b_c``."""
    return add_bias(scaled(normalize(c), params.memory_scale), params.memory_bias)


def _joint_project(params: LayerNormParams, x: jax.Array) -> jax.Array:
    """``s_x * N(x W)``."""
    return scaled(normalize(lstm.project(params, x)), params.input_scale)


def _joint_recur(params: LayerNormParams, z: jax.Array, state: LSTMState) -> jax.Array:
    """``s_x * N(x W) + s_h * N(h R) + b``."""
    r = scaled(normalize(matmul(state.h, params.recurrent_kernel)), params.recurrent_scale)
    return add_bias(z + r, params.bias)


def _joint_update(params: LayerNormParams, a: jax.Array, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """``c' = f * c + i * g`` and ``h' = o * tanh(s_c * N(c') + b_c)``."""
    gates = apply_gates(STANDARD_GATES, a)
    c = new_memory(STANDARD_GATES, gates, state.c)
    h = (gates["o"] * jnp.tanh(_normalize_memory(params, c))).astype(state.h.dtype)
    return LSTMState(h, c), h


def _gate_recur(params: GateNormParams, z: jax.Array, state: LSTMState) -> jax.Array:
    """``s_k * N(x W_k + h R_k) + b_k`` for each gate k."""
    slab = z + matmul(state.h, params.recurrent_kernel)
    per_gate = slab.reshape(*slab.shape[:-1], 4, slab.shape[-1] // 4)
    return add_bias(scaled(normalize(per_gate).reshape(slab.shape), params.scale), params.bias)


def _gate_update(params: GateNormParams, a: jax.Array, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """``c' = s_c * N(f * c + i * g) + b_c`` and ``h' = o * tanh(c')``."""
    gates = apply_gates(STANDARD_GATES, a)
    c = _normalize_memory(params, new_memory(STANDARD_GATES, gates, state.c))
    h = (gates["o"] * jnp.tanh(c)).astype(state.h.dtype)
    return LSTMState(h, c), h


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LayerNormParams:
    """Draws kernels and bias by the LSTM's default scheme, with scales of 1 and ``b_c`` of 0."""
    ones_4h, ones_h = jnp.ones(4 * hidden_size, dtype), jnp.ones(hidden_size, dtype)
    kernels = init_kernels(key, input_size, hidden_size, dtype)
    return LayerNormParams(*kernels, forget_bias(hidden_size, dtype), ones_4h, ones_4h, ones_h, 0 * ones_h)


@cell_init
def init_per_gate(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> GateNormParams:
    """Draws kernels and bias by the LSTM's default scheme, with scales of 1 and ``b_c`` of 0."""
    ones_4h, ones_h = jnp.ones(4 * hidden_size, dtype), jnp.ones(hidden_size, dtype)
    kernels = init_kernels(key, input_size, hidden_size, dtype)
    return GateNormParams(*kernels, forget_bias(hidden_size, dtype), ones_4h, ones_h, 0 * ones_h)


AXES = {"recurrent_kernel": "H 4H", "input_kernel": "D 4H", "bias": "4H", "memory_scale": "H", "memory_bias": "H"}
"""Axes of the parameters that all normalized LSTMs have."""
LAYER_NORM_LSTM = Cell(
    init=init,
    project=_joint_project,
    recur=_joint_recur,
    update=_joint_update,
    zero_state=zero_lstm_state,
    prepare=prepare_kernel,
    check=make_params_check(LayerNormParams, **AXES, input_scale="4H", recurrent_scale="4H"),
    gates=lstm.gates,
)
GATE_NORM_LSTM = Cell(
    init=init_per_gate,
    project=lstm.project,
    recur=_gate_recur,
    update=_gate_update,
    zero_state=zero_lstm_state,
    prepare=prepare_kernel,
    check=make_params_check(GateNormParams, **AXES, scale="4H"),
    gates=lstm.gates,
)
