"""LSTMs that differ in their gates, nonlinearities or memory alone: one function makes them from a ``GateSpec``.

    coupled            i = 1 - f (CIFG)                           Greff et al. 2017, arXiv:1503.04069
    no_input_gate      i = 1                                      the same
    no_forget_gate     f = 1, the LSTM of 1997                    the same; Hochreiter and Schmidhuber 1997
    no_output_gate     o = 1                                      Greff et al. 2017
    capped             i = min(i, 1 - f)                          Melis et al. 2020, arXiv:1909.01792
    janet              i = 1 - sigmoid(a_f - 1), o = 1, h' = c'   van der Westhuizen and Lasenby 2018, arXiv:1804.04849
    clipped            c' within -3 and 3                         Sak et al. 2014, arXiv:1402.1128; the bound varies
    relu               g = relu(a_g), h' = o * relu(c')           the form some tutorials use

All else is as in ``lstm.py``. With all four gates the parameters are ``LSTMParams``, so that weights of any LSTM run.
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
    """Parameters of one layer with ``G`` gates, fewer than four."""

    input_kernel: jax.Array
    """``[D, GH]``"""
    recurrent_kernel: jax.Array
    """``[H, GH]``"""
    bias: jax.Array
    """``[GH]``"""


@cache
def lstm_variant(form: GateSpec) -> Cell:
    """The LSTM of this form: ``lstm_variant(GateSpec(clip=50.0))``, ``lstm_variant(GateSpec(candidate=jax.nn.relu))``."""

    def update(params: GatedParams, a: jax.Array | GateBlocks, state: LSTMState) -> tuple[LSTMState, jax.Array]:
        return _advance(form, apply_gates(form, a), state)

    def gates(params: GatedParams, a: jax.Array | GateBlocks, state: LSTMState) -> dict[str, jax.Array]:
        return _all_gates(form, apply_gates(form, a))

    count, whole = len(form.blocks), uses_slab(form)
    slab = f"{count}H"
    kind = LSTMParams if form.blocks == STANDARD_GATES.blocks else GatedParams
    check = make_params_check(kind, recurrent_kernel=f"H {slab}", input_kernel=f"D {slab}", bias=slab)

    @cell_init
    def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams | GatedParams:
        """As the LSTM's default scheme: Glorot uniform, orthogonal per gate, forget bias 1."""
        kernels = init_kernels(key, input_size, hidden_size, dtype, count)
        return kind(*kernels, forget_bias(hidden_size, dtype, form.blocks))

    return Cell(
        init=init,
        project=lstm.project if whole else blocks.projection(count),
        recur=lstm.recur if whole else blocks.recur,
        update=update,
        zero_state=zero_lstm_state,
        prepare=prepare_kernel,
        check=check,
        gates=gates,
    )


@cache
def masked_lstm_variant(form: GateSpec) -> Cell:
    """The same, reading ``Inputs(x, mask)``: the candidate is multiplied by the mask ``[T, *batch, H]``."""
    plain = lstm_variant(form)

    def masked(a: PyTree, mask: jax.Array) -> Gates:
        gates = apply_gates(form, a)
        return gates | {"g": gates["g"] * jax.lax.stop_gradient(mask)}

    return with_inputs(
        plain,
        lambda params, a, mask, state: _advance(form, masked(a, mask), state),
        gates=lambda params, a, mask, state: _all_gates(form, masked(a, mask)),
    )


def _all_gates(form: GateSpec, gates: Gates) -> dict[str, jax.Array]:
    """Those with weights, and the input gate that follows from them; one that is 1 throughout is not there."""
    i = form.input_gate(gates)
    return dict(gates) | ({"i": i} if isinstance(i, jax.Array) else {})


def _advance(form: GateSpec, gates: Gates, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    c = new_memory(form, gates, state.c)
    h = form.output(c) * gates["o"] if "o" in gates else form.output(c)
    h = h.astype(state.h.dtype)
    return LSTMState(h, c), h


def _one(gates: Gates) -> float:
    return 1.0


def _coupled(gates: Gates) -> jax.Array:
    return 1 - gates["f"]


def _capped(gates: Gates) -> jax.Array:
    return jnp.minimum(gates["i"], 1 - gates["f"])


def _janet(gates: Gates) -> jax.Array:
    """``1 - sigmoid(a - 1)`` from ``f = sigmoid(a)``."""
    forgotten = math.e * (1 - gates["f"])
    return forgotten / (gates["f"] + forgotten)


def _memory(c: jax.Array) -> jax.Array:
    return c


GATE_SPECS = {
    "coupled": GateSpec("fgo", _coupled),
    "no_input_gate": GateSpec("fgo", _one),
    "no_forget_gate": GateSpec("igo"),
    "no_output_gate": GateSpec("ifg"),
    "capped": GateSpec(input_gate=_capped),
    "janet": GateSpec("fg", _janet, output=_memory),
    "clipped": GateSpec(clip=3.0),
    "relu": GateSpec(candidate=jax.nn.relu, output=jax.nn.relu),
}
