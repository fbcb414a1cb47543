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
    """The input gate as its own weights give it."""
    return gates["i"]


class GateSpec(NamedTuple):
    """The gates of an LSTM and their nonlinearities; by default those of the LSTM itself."""

    gate_order: str = "ifgo"
    """the gates with weights, a letter for each block of ``H`` in their order; a gate that is missing is 1"""
    input_gate_fn: Callable[[Gates], Any] = learned_input_gate
    """the input gate, from the gates with weights"""
    gate_fn: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid
    """of the pre-activations of input, forget and output gate"""
    candidate_fn: Callable[[jax.Array], jax.Array] = jnp.tanh
    """of the pre-activations of the candidate"""
    output_fn: Callable[[jax.Array], jax.Array] = jnp.tanh
    """of the new memory, before the output gate multiplies it"""
    clip: float | None = None
    """the bound of the new memory, on both sides; None means none"""


def uses_slab(gate_spec: GateSpec) -> bool:
    """Whether the pre-activations of this LSTM come in one slab; else in blocks, see ``blocks.py``."""
    return gate_spec.gate_fn is jax.nn.sigmoid and gate_spec.candidate_fn is jnp.tanh and "o" in gate_spec.gate_order


def apply_gates(gate_spec: GateSpec, a: jax.Array | GateBlocks) -> dict[str, jax.Array]:
    """The gates with weights from their pre-activations, blocks ``[..., H]`` or a slab ``[..., GH]``.

    A slab takes one tanh, sliced afterwards, since sigmoid(x) = (1 + tanh(x / 2)) / 2. Nonlinearities applied to four
    slices of it do not vectorize on CPU: 13.0 against 2.7 ns for each cell of a step (B=32 H=256).
    """
    gate_order = gate_spec.gate_order
    if isinstance(a, tuple):
        blocks = zip(gate_order, a, strict=True)
        return {name: (gate_spec.candidate_fn if name == "g" else gate_spec.gate_fn)(block) for name, block in blocks}
    slices = jnp.split(tanh(a * _halves(gate_order, a)), len(gate_order), axis=-1)
    named = zip(gate_order, slices, strict=True)
    return {name: part if name == "g" else 0.5 * part + 0.5 for name, part in named}


def new_memory(gate_spec: GateSpec, gates: Gates, c: jax.Array) -> jax.Array:
    """``c' = f * c + i * g``, each gate as far as the LSTM has it; clipped where it says so."""
    c = gates["f"] * c if "f" in gates else c
    c = c + gate_spec.input_gate_fn(gates) * gates["g"]
    return c if gate_spec.clip is None else jnp.clip(c, -gate_spec.clip, gate_spec.clip)


def _halves(gate_order: str, a: jax.Array) -> jax.Array:
    """1/2 over the blocks of the sigmoids and 1 over that of the candidate; exact, being powers of two."""
    width = a.shape[-1] // len(gate_order)
    factors = jnp.concatenate([jnp.full(width, 1.0 if name == "g" else 0.5, a.dtype) for name in gate_order])
    return lax.broadcast_to_rank(factors, a.ndim)
