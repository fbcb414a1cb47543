"""Attention over a padded memory: additive and by dot product, one query a row.

    additive (Bahdanau, Cho and Bengio 2015, arXiv:1409.0473)     e_s = v . tanh(query Q + m_s M)
    dot      (Luong, Pham and Manning 2015, arXiv:1508.04025)     e_s = query . m_s, here divided by sqrt of the width
    weights = softmax of e over the steps that are there;  context = sum of weights_s * m_s

Time comes first: memory ``[S, *batch, M]``, query ``[*batch, N]``, context ``[*batch, M]``, weights ``[S, *batch]``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init

from lstm_jax._core.checks import check_array, check_flags, check_init_args
from lstm_jax._core.structs import accumulator_dtype


class AdditiveParams(NamedTuple):
    """Parameters of additive attention of width ``A``."""

    query_kernel: jax.Array
    """``[N, A]``"""
    memory_kernel: jax.Array
    """``[M, A]``"""
    score: jax.Array
    """``[A]``"""


def init_additive(
    key: jax.Array, query_size: int, memory_size: int, attention_size: int, *, dtype: jnp.dtype = jnp.float32
) -> AdditiveParams:
    """Kernels Glorot uniform; the score as one column of such a kernel."""
    check_init_args(key, dtype, query_size=query_size, memory_size=memory_size, size=attention_size)
    keys = jax.random.split(key, 3)
    draw = jax_init.glorot_uniform()
    shapes = (query_size, attention_size), (memory_size, attention_size), (attention_size, 1)
    wide = accumulator_dtype(dtype)
    query, memory, score = (draw(one, shape, wide).astype(dtype) for one, shape in zip(keys, shapes, strict=True))
    return AdditiveParams(query, memory, score[:, 0])


def memory_keys(params: AdditiveParams, memory: jax.Array) -> jax.Array:
    """``m_s M``, ``[S, *batch, A]``: does not depend on the query, so compute it once before decoding."""
    return memory @ params.memory_kernel


def additive(
    params: AdditiveParams,
    query: jax.Array,
    memory: jax.Array,
    mask: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(context, weights) by additive scores.

    Args:
        mask: bool ``[S, *batch]``, the steps that are there; see ``lengths_to_mask``. A row without any has weights 0.
        keys: ``memory_keys(params, memory)``, if computed before.
    """
    memory = _there(memory, mask)
    keys = memory_keys(params, memory) if keys is None else _there(keys, mask)
    seen = jnp.tanh(keys + (query @ params.query_kernel)[None])
    return _read(seen @ params.score, memory, mask)


def dot(query: jax.Array, memory: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(context, weights) by scaled dot products; query and memory have one width."""
    check_array("query", query, memory.shape[1:])
    memory = _there(memory, mask)
    scores = jnp.sum(query[None] * memory, axis=-1) / jnp.sqrt(jnp.asarray(memory.shape[-1], memory.dtype))
    return _read(scores, memory, mask)


def _read(scores: jax.Array, memory: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Softmax over time in the accumulator dtype, and the sum it weighs."""
    wide = accumulator_dtype(memory.dtype)
    weights = jax.nn.softmax(scores.astype(wide), axis=0, where=mask)
    context = jnp.sum(weights[..., None] * memory.astype(wide), axis=0)
    return context.astype(memory.dtype), weights.astype(memory.dtype)


def _there(memory: jax.Array, mask: jax.Array | None) -> jax.Array:
    """0 at steps that are not there, so that a NaN among them reaches neither result nor derivative."""
    if mask is None:
        return memory
    check_flags("mask", mask, memory.shape[:-1])
    return jnp.where(mask[..., None], memory, 0)
