"""LSTMs that differ in their gates, nonlinearities or memory alone: one function makes them from a ``Form``.

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

from lstm_jax.cells import blocks, lstm
from lstm_jax.cells.blocks import Blocks
from lstm_jax.cells.dense import lay_out
from lstm_jax.cells.gates import Form, Gates, activate, one_slab, remember
from lstm_jax.cells.lstm import STANDARD
from lstm_jax.checks import params_check
from lstm_jax.initializers import draw_kernels, forget_bias, zero_memory
from lstm_jax.structs import Cell, LSTMParams, LSTMState, sequence_of


class GatedParams(NamedTuple):
    """Parameters of one layer with ``G`` gates, fewer than four."""

    input_kernel: jax.Array
    """``[D, GH]``"""
    recurrent_kernel: jax.Array
    """``[H, GH]``"""
    bias: jax.Array
    """``[GH]``"""


@cache
def variant(form: Form) -> Cell:
    """The LSTM of this form: ``variant(Form(clip=50.0))``, ``variant(Form(candidate=jax.nn.relu))``."""

    def update(params: GatedParams, a: jax.Array | Blocks, state: LSTMState) -> tuple[LSTMState, jax.Array]:
        return _advance(form, activate(form, a), state)

    def gates(params: GatedParams, a: jax.Array | Blocks, state: LSTMState) -> dict[str, jax.Array]:
        return _all_gates(form, activate(form, a))

    count, whole = len(form.blocks), one_slab(form)
    slab = f"{count}H"
    kind = LSTMParams if form.blocks == STANDARD.blocks else GatedParams
    check = params_check(kind, recurrent_kernel=f"H {slab}", input_kernel=f"D {slab}", bias=slab)
    project, recur = (lstm.project, lstm.recur) if whole else (blocks.projection(count), blocks.recur)
    return Cell(project, recur, update, zero_memory, lay_out, check, gates)


@cache
def masked_variant(form: Form) -> Cell:
    """The same, reading ``Inputs(x, mask)``: the candidate is multiplied by the mask ``[T, *batch, H]``."""
    plain = variant(form)

    def masked(a: tuple) -> Gates:
        gates = activate(form, a[0])
        return gates | {"g": gates["g"] * jax.lax.stop_gradient(a[1])}

    def update(params: GatedParams, a: tuple, state: LSTMState) -> tuple[LSTMState, jax.Array]:
        return _advance(form, masked(a), state)

    return plain._replace(
        project=lambda params, inputs: (plain.project(params, inputs.x), inputs.each),
        recur=lambda params, z, state: (plain.recur(params, z[0], state), z[1]),
        update=update,
        check=lambda params, xs: plain.check(params, sequence_of(xs)),
        gates=lambda params, a, state: _all_gates(form, masked(a)),
    )


def _all_gates(form: Form, gates: Gates) -> dict[str, jax.Array]:
    """Those with weights, and the input gate that follows from them; one that is 1 throughout is not there."""
    i = form.input_gate(gates)
    return dict(gates) | ({"i": i} if isinstance(i, jax.Array) else {})


def _advance(form: Form, gates: Gates, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    c = remember(form, gates, state.c)
    h = form.output(c) * gates["o"] if "o" in gates else form.output(c)
    h = h.astype(state.h.dtype)
    return LSTMState(h, c), h


def draw(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype, form: Form) -> LSTMParams | GatedParams:
    """As the LSTM's default scheme: Glorot uniform, orthogonal per gate, forget bias 1."""
    kernels = draw_kernels(key, inputs, hidden, dtype, len(form.blocks))
    kind = LSTMParams if form.blocks == STANDARD.blocks else GatedParams
    return kind(*kernels, forget_bias(hidden, dtype, form.blocks))


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


FORMS = {
    "coupled": Form("fgo", _coupled),
    "no_input_gate": Form("fgo", _one),
    "no_forget_gate": Form("igo"),
    "no_output_gate": Form("ifg"),
    "capped": Form(input_gate=_capped),
    "janet": Form("fg", _janet, output=_memory),
    "clipped": Form(clip=3.0),
    "relu": Form(candidate=jax.nn.relu, output=jax.nn.relu),
}
