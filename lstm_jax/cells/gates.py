"""The element-wise maths that the cells of the LSTM's family share: gates from pre-activations, and the memory.

gates = sigmoid or tanh of their pre-activations
c' = f * c + i * g
h' = o * tanh(c')
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax.cells.activations import tanh
from lstm_jax.cells.blocks import GateBlocks

Gates = Mapping[str, jax.Array]
"""Gates by their letters, each ``[..., H]``."""


def learned_input_gate(gates: Gates) -> jax.Array:
    """The input gate that has weights."""
    return gates["i"]


class GateSpec(NamedTuple):
    """What distinguishes a member of the family; the LSTM itself by default."""

    blocks: str = "ifgo"
    """the gates with weights, a letter for each block of ``H`` in their order; a gate that is missing is 1"""
    input_gate: Callable[[Gates], Any] = learned_input_gate
    """the input gate from those with weights"""
    gate: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid
    candidate: Callable[[jax.Array], jax.Array] = jnp.tanh
    output: Callable[[jax.Array], jax.Array] = jnp.tanh
    """of the new memory, before the output gate"""
    clip: float | None = None
    """where the new memory is cut, on both sides"""


def uses_slab(form: GateSpec) -> bool:
    """Whether pre-activations come in one slab; else in blocks, see ``blocks.py``."""
    return form.gate is jax.nn.sigmoid and form.candidate is jnp.tanh and "o" in form.blocks


def apply_gates(form: GateSpec, a: jax.Array | GateBlocks) -> dict[str, jax.Array]:
    """The gates with weights from their pre-activations, blocks ``[..., H]`` or a slab ``[..., GH]``.

    A slab takes one tanh, sliced afterwards, since sigmoid(x) = (1 + tanh(x / 2)) / 2. Nonlinearities applied to four
    slices of it do not vectorise on CPU: 13.0 against 2.7 ns for each cell of a step (B=32 H=256).
    """
    count = len(form.blocks)
    if isinstance(a, tuple):
        parts = zip(form.blocks, a, strict=True)
        return {name: form.candidate(part) if name == "g" else form.gate(part) for name, part in parts}
    slab = zip(form.blocks, jnp.split(tanh(a * _halves(form.blocks, a)), count, axis=-1), strict=True)
    return {name: part if name == "g" else 0.5 * part + 0.5 for name, part in slab}


def new_memory(form: GateSpec, gates: Gates, c: jax.Array) -> jax.Array:
    """The new memory."""
    kept = gates["f"] * c if "f" in gates else c
    c = kept + form.input_gate(gates) * gates["g"]
    return c if form.clip is None else jnp.clip(c, -form.clip, form.clip)


def _halves(blocks: str, a: jax.Array) -> jax.Array:
    """1/2 over the blocks of the sigmoids and 1 over that of the candidate; exact, being powers of two."""
    width = a.shape[-1] // len(blocks)
    factors = jnp.concatenate([jnp.full(width, 1.0 if name == "g" else 0.5, a.dtype) for name in blocks])
    return lax.broadcast_to_rank(factors, a.ndim)
