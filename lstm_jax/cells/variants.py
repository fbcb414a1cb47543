"""Variants of the LSTM with other gates, nonlinearities or a clipped memory, made by ``lstm_variant``.

    coupled            i = 1 - f (CIFG)                           Greff et al. 2017, arXiv:1503.04069
    no_input_gate      i = 1                                      Greff et al. 2017
    no_forget_gate     f = 1, the LSTM of 1997                    Greff et al. 2017; Hochreiter and Schmidhuber 1997
    no_output_gate     o = 1                                      Greff et al. 2017
    capped             i = min(i, 1 - f)                          Melis et al. 2020, arXiv:1909.01792
    janet              i = 1 - sigmoid(a_f - 1), o = 1, h' = c'   van der Westhuizen and Lasenby 2018, arXiv:1804.04849
    clipped            c' within -3 and 3                         Sak et al. 2014, arXiv:1402.1128, with other bounds
    relu               g = relu(a_g), h' = o * relu(c')           some tutorials

Everything else is as in ``lstm.py``. Variants with all four gates have ``LSTMParams``, so they run with the weights of
an LSTM.
"""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMParams, LSTMState, PyTree
from lstm_jax.cells import blocks, lstm
from lstm_jax.cells.blocks import GateBlocks
from lstm_jax.cells.dense import prepare_kernel
from lstm_jax.cells.gates import Gates, GateSpec, apply_gates, new_memory, uses_slab
from lstm_jax.cells.inputs import with_inputs
from lstm_jax.cells.lstm import STANDARD_GATES
from lstm_jax.initializers import cell_init, forget_bias, init_kernels, zero_lstm_state


class GatedParams(NamedTuple):
    """Parameters of one layer of a variant with ``G`` gates, fewer than four."""

    input_kernel: jax.Array
    """``[D, GH]``"""
    recurrent_kernel: jax.Array
    """``[H, GH]``"""
    bias: jax.Array
    """``[GH]``"""


@cache
def lstm_variant(gate_spec: GateSpec) -> Cell:
    """Makes an LSTM variant; calls with an equal ``gate_spec`` return the same cell, which ``unroll`` compiles once.

    Example:
        >>> import jax, lstm_jax as lj
        >>> clipped = lj.cells.lstm_variant(lj.cells.GateSpec(clip=50.0))
        >>> params = clipped.init(jax.random.key(0), input_size=3, hidden_size=8)
    """

    def update(params: GatedParams, a: jax.Array | GateBlocks, state: LSTMState) -> tuple[LSTMState, jax.Array]:
        return _advance(gate_spec, apply_gates(gate_spec, a), state)

    def gates(params: GatedParams, a: jax.Array | GateBlocks, state: LSTMState) -> dict[str, jax.Array]:
        return _all_gates(gate_spec, apply_gates(gate_spec, a))

    num_gates = len(gate_spec.gate_order)
    has_slab = uses_slab(gate_spec)
    slab_axis = f"{num_gates}H"
    params_type = LSTMParams if gate_spec.gate_order == STANDARD_GATES.gate_order else GatedParams
    axes = {"recurrent_kernel": f"H {slab_axis}", "input_kernel": f"D {slab_axis}", "bias": slab_axis}

    @cell_init
    def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams | GatedParams:
        """Draws Glorot uniform input and orthogonal recurrent kernels per gate, with forget biases of 1."""
        kernels = init_kernels(key, input_size, hidden_size, dtype, num_gates)
        return params_type(*kernels, forget_bias(hidden_size, dtype, gate_spec.gate_order))

    return Cell(
        init=init,
        project=lstm.project if has_slab else blocks.make_project(num_gates),
        recur=lstm.recur if has_slab else blocks.recur,
        update=update,
        zero_state=zero_lstm_state,
        prepare=prepare_kernel,
        check=make_params_check(params_type, **axes),
        gates=gates,
    )


@cache
def masked_lstm_variant(gate_spec: GateSpec) -> Cell:
    """Makes an LSTM variant with inputs ``Inputs(x, mask)``, which multiplies the candidate by ``mask [T, *batch, H]``.

    ``regularizers.candidate_dropout`` uses it.
    """
    unmasked_cell = lstm_variant(gate_spec)

    def masked_gates(a: PyTree, mask: jax.Array) -> Gates:
        gates = apply_gates(gate_spec, a)
        return gates | {"g": gates["g"] * jax.lax.stop_gradient(mask)}

    return with_inputs(
        unmasked_cell,
        lambda params, a, mask, state: _advance(gate_spec, masked_gates(a, mask), state),
        gates=lambda params, a, mask, state: _all_gates(gate_spec, masked_gates(a, mask)),
    )


def _all_gates(gate_spec: GateSpec, gates: Gates) -> dict[str, jax.Array]:
    """Adds the input gate to the gates with weights, unless it is the constant 1."""
    i = gate_spec.input_gate_fn(gates)
    return dict(gates) | ({"i": i} if isinstance(i, jax.Array) else {})


def _advance(gate_spec: GateSpec, gates: Gates, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """Computes ``c' = f * c + i * g`` and ``h' = o * output_fn(c')``, where a missing gate is 1."""
    c = new_memory(gate_spec, gates, state.c)
    h = gate_spec.output_fn(c) * gates["o"] if "o" in gates else gate_spec.output_fn(c)
    h = h.astype(state.h.dtype)
    return LSTMState(h, c), h


def _constant_input_gate(gates: Gates) -> float:
    """``i = 1``."""
    return 1.0


def _coupled_input_gate(gates: Gates) -> jax.Array:
    """``i = 1 - f``."""
    return 1 - gates["f"]


def _capped_input_gate(gates: Gates) -> jax.Array:
    """``i = min(i, 1 - f)``."""
    return jnp.minimum(gates["i"], 1 - gates["f"])


def _janet_input_gate(gates: Gates) -> jax.Array:
    """``i = 1 - sigmoid(a_f - 1)``, computed from ``f = sigmoid(a_f)``."""
    scaled_complement = math.e * (1 - gates["f"])
    return scaled_complement / (gates["f"] + scaled_complement)


def _identity(c: jax.Array) -> jax.Array:
    return c


GATE_SPECS = {
    "coupled": GateSpec("fgo", _coupled_input_gate),
    "no_input_gate": GateSpec("fgo", _constant_input_gate),
    "no_forget_gate": GateSpec("igo"),
    "no_output_gate": GateSpec("ifg"),
    "capped": GateSpec(input_gate_fn=_capped_input_gate),
    "janet": GateSpec("fg", _janet_input_gate, output_fn=_identity),
    "clipped": GateSpec(clip=3.0),
    "relu": GateSpec(candidate_fn=jax.nn.relu, output_fn=jax.nn.relu),
}
"""Name of a variant to its gates."""
