"""The LSTM of Hochreiter and Schmidhuber 1997 with the forget gate of Gers, Schmidhuber and Cummins 2000.

    i = sigmoid(x W_i + h R_i + b_i)          input gate
    f = sigmoid(x W_f + h R_f + b_f)          forget gate
    g = tanh(x W_g + h R_g + b_g)             candidate
    o = sigmoid(x W_o + h R_o + b_o)          output gate
    c' = f * c + i * g                        memory
    h' = o * tanh(c')                         output

These are the equations of every framework. Some tutorials print others: ``h' = o * tanh(g)``, one matrix shared by x
and h, an output gate that reads ``c'``. Those are misprints or different models.
"""

from typing import NamedTuple

import jax

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMParams, LSTMState, PyTree, split_gates
from lstm_jax.cells.dense import add_bias, matmul, prepare_kernel
from lstm_jax.cells.gates import Gates, GateSpec, apply_gates, new_memory
from lstm_jax.initializers import init_params, zero_state

STANDARD_GATES = GateSpec()
"""The gates of the LSTM: i, f, g, o."""


def project(params: PyTree, x: jax.Array) -> jax.Array:
    """``x W``: ``[..., D] -> [..., 4H]``."""
    return matmul(x, params.input_kernel)


def recur(params: PyTree, z: jax.Array, state: LSTMState) -> jax.Array:
    """``x W + h R + b``: the pre-activations of all four gates, ``[..., 4H]``."""
    return add_bias(z + matmul(state.h, params.recurrent_kernel), params.bias)


def update(params: PyTree, a: jax.Array, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """``c' = f * c + i * g`` and ``h' = o * tanh(c')``, with a custom derivative."""
    new_state = advance(a, state)
    return new_state, new_state.h


def gates(params: PyTree, a: jax.Array, state: LSTMState) -> dict[str, jax.Array]:
    """``i, f, g, o``, each ``[..., H]``."""
    return apply_gates(STANDARD_GATES, a)


@jax.custom_jvp
def advance(a: jax.Array, state: LSTMState) -> LSTMState:
    """Computes the new state from the pre-activations ``[..., 4H]`` and ``c``; only the dtype of ``h`` is used.

    Args:
        a: the pre-activations, gates i, f, g, o.
        state: the state that the step starts from.
    """
    return _advance_with_gates(a, state)[0]


class Coefficients(NamedTuple):
    """Partial derivatives of c' and h' at one step, ``[..., H]`` each; they give its tangent.

    dc' = dc_dc dc + dc_di da_i + dc_df da_f + dc_dg da_g
    dh' = dh_dc dc' + dh_do da_o
    """

    dc_di: jax.Array
    """``g i (1 - i)``"""
    dc_df: jax.Array
    """``c f (1 - f)``"""
    dc_dg: jax.Array
    """``i (1 - g^2)``"""
    dh_do: jax.Array
    """``tanh(c') o (1 - o)``"""
    dh_dc: jax.Array
    """``o (1 - tanh(c')^2)``"""
    dc_dc: jax.Array
    """``f``"""


def coefficients(a: jax.Array, state: LSTMState) -> Coefficients:
    """Computes the coefficients of the tangent of ``update`` at pre-activations ``a [..., 4H]`` and a state.

    Args:
        a: the pre-activations, gates i, f, g, o.
        state: the state that the step starts from.
    """
    return _coefficients(state.c, *_advance_with_gates(a, state)[1:])


def _coefficients(c: jax.Array, gates: Gates, tanh_c: jax.Array) -> Coefficients:
    """Computes the coefficients from ``c``, the gates and ``tanh(c')``."""
    i, f, g, o = (gates[name] for name in STANDARD_GATES.gate_order)
    dc_di, dc_df, dc_dg = g * i * (1 - i), c * f * (1 - f), i * (1 - g * g)
    return Coefficients(dc_di, dc_df, dc_dg, tanh_c * o * (1 - o), o * (1 - tanh_c * tanh_c), f)


def step_tangent(coefficients: Coefficients, da: jax.Array, dstate: LSTMState) -> LSTMState:
    """Computes the tangent of ``update``, linear in ``da [..., 4H]`` and ``dstate``.

    Args:
        coefficients: of this step.
        da: the tangent of the pre-activations.
        dstate: the tangent of the state that the step starts from.
    """
    di, df, dg, do = split_gates(da)
    dc = coefficients.dc_dc * dstate.c + (coefficients.dc_di * di + coefficients.dc_df * df + coefficients.dc_dg * dg)
    dh = coefficients.dh_dc * dc + coefficients.dh_do * do
    return LSTMState(dh.astype(dstate.h.dtype), dc)


def _advance_with_gates(a: jax.Array, state: LSTMState) -> tuple[LSTMState, Gates, jax.Array]:
    """Computes the new state, the gates and tanh(c'); the coefficients are computed from the last two."""
    activated = apply_gates(STANDARD_GATES, a)
    c = new_memory(STANDARD_GATES, activated, state.c)
    tanh_c = STANDARD_GATES.output_fn(c)
    return LSTMState((activated["o"] * tanh_c).astype(state.h.dtype), c), activated, tanh_c


@advance.defjvp
def _advance_jvp(
    primals: tuple[jax.Array, LSTMState], tangents: tuple[jax.Array, LSTMState]
) -> tuple[LSTMState, LSTMState]:
    """Computes the tangent from six coefficients.

    They do not depend on the tangents, so they are computed for a chunk of steps at once, outside the backward loop.
    """
    (a, state), (da, dstate) = primals, tangents
    new_state, activated, tanh_c = _advance_with_gates(a, state)
    return new_state, step_tangent(_coefficients(state.c, activated, tanh_c), da, dstate)


check = make_params_check(LSTMParams, recurrent_kernel="H 4H", input_kernel="D 4H", bias="4H")
LSTM = Cell(
    init=init_params,
    project=project,
    recur=recur,
    update=update,
    zero_state=zero_state,
    prepare=prepare_kernel,
    check=check,
    gates=gates,
)
