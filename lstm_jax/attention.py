"""Additive and scaled dot-product attention of one query per batch row over a padded memory.

    additive (Bahdanau, Cho and Bengio 2015, arXiv:1409.0473)     e_s = v . tanh(q Q + m_s M)
    dot      (Luong, Pham and Manning 2015, arXiv:1508.04025)     e_s = q . m_s / sqrt(M)
    weights = softmax of e over the valid steps s;  context = sum over s of weights_s m_s

Time is axis 0: memory ``[S, *batch, M]``, query ``[*batch, N]``, context ``[*batch, M]``, weights ``[S, *batch]``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init
from jax.typing import DTypeLike

from lstm_jax._core.checks import check_array, check_flags, check_init_args
from lstm_jax._core.structs import accumulator_dtype


class AdditiveParams(NamedTuple):
    """Parameters of additive attention with ``A`` hidden units, initialized by ``init_additive``."""

    query_kernel: jax.Array
    """``[N, A]``, Q of the equation"""
    memory_kernel: jax.Array
    """``[M, A]``, M of the equation"""
    score: jax.Array
    """``[A]``, v of the equation"""


def init_additive(
    key: jax.Array, query_size: int, memory_size: int, attention_size: int, *, dtype: DTypeLike = jnp.float32
) -> AdditiveParams:
    """Initializes the parameters of additive attention.

    All kernels are Glorot uniform; v is initialized as a kernel ``[A, 1]``.

    Args:
        key: a JAX random key.
        query_size: N, the features of the query.
        memory_size: M, the features per memory step.
        attention_size: A, the number of hidden units inside the tanh.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        AdditiveParams: the parameters for ``additive`` and ``memory_keys``.
    Raises:
        ValueError: if a size is below 1, ``key`` is not a random key, or ``dtype`` is not a floating dtype.

    Example:
        >>> import jax, lstm_jax as lj
        >>> lj.attention.init_additive(jax.random.key(0), 4, 5, 8).memory_kernel.shape
        (5, 8)
    """
    check_init_args(key, dtype, query_size=query_size, memory_size=memory_size, attention_size=attention_size)
    init = jax_init.glorot_uniform()
    shapes = (query_size, attention_size), (memory_size, attention_size), (attention_size, 1)
    query_kernel, memory_kernel, score = (
        init(part_key, shape, accumulator_dtype(dtype)).astype(dtype)
        for part_key, shape in zip(jax.random.split(key, 3), shapes, strict=True)
    )
    return AdditiveParams(query_kernel, memory_kernel, score[:, 0])


def memory_keys(params: AdditiveParams, memory: jax.Array) -> jax.Array:
    """Computes the keys ``m_s M`` of additive attention, which do not depend on the query.

    Compute them once per memory and pass them to ``additive`` for each query.

    Args:
        params: parameters from ``init_additive``.
        memory: ``[S, *batch, M]``.
    Returns:
        The keys ``[S, *batch, A]``.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.attention.init_additive(jax.random.key(0), 4, 5, 8)
        >>> lj.attention.memory_keys(params, jnp.ones((7, 2, 5))).shape
        (7, 2, 8)
    """
    return memory @ params.memory_kernel


def additive(
    params: AdditiveParams,
    query: jax.Array,
    memory: jax.Array,
    mask: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes additive attention, with the score ``v . tanh(q Q + m_s M)`` of query q for memory step m_s.

    Args:
        params: parameters from ``init_additive``.
        query: ``[*batch, N]``.
        memory: ``[S, *batch, M]``.
        mask: bool ``[S, *batch]``, True at valid steps, for example from ``lengths_to_mask``; None means all steps are
            valid. Weights and context are 0 for a batch row without valid steps.
        keys: precomputed ``memory_keys(params, memory)``; None computes them.
    Returns:
        (context, weights): the context ``[*batch, M]``, and the weights ``[S, *batch]``, which sum to 1 over the valid
        steps.
    Raises:
        ValueError: if ``mask`` is not boolean or its shape is not ``[S, *batch]``.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.attention.init_additive(jax.random.key(0), 4, 5, 8)
        >>> mask = lj.lengths_to_mask(jnp.array([7, 3]), 7)
        >>> context, weights = lj.attention.additive(params, jnp.ones((2, 4)), jnp.ones((7, 2, 5)), mask)
        >>> context.shape, weights.shape
        ((2, 5), (7, 2))
    """
    memory = _zero_padding(memory, mask)
    keys = memory_keys(params, memory) if keys is None else _zero_padding(keys, mask)
    scores = jnp.tanh(keys + (query @ params.query_kernel)[None]) @ params.score
    return _weighted_sum(scores, memory, mask)


def dot(query: jax.Array, memory: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Computes scaled dot-product attention, with the score ``q . m_s / sqrt(M)`` of query q for memory step m_s.

    Args:
        query: ``[*batch, M]``, with as many features as the memory.
        memory: ``[S, *batch, M]``.
        mask: bool ``[S, *batch]``, True at valid steps, for example from ``lengths_to_mask``; None means all steps are
            valid. Weights and context are 0 for a batch row without valid steps.
    Returns:
        (context, weights): the context ``[*batch, M]``, and the weights ``[S, *batch]``, which sum to 1 over the valid
        steps.
    Raises:
        ValueError: if the shape of ``query`` is not ``[*batch, M]``, or ``mask`` is not boolean or its shape is not
            ``[S, *batch]``.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> context, weights = lj.attention.dot(jnp.zeros((2, 5)), jnp.ones((4, 2, 5)))
        >>> weights[:, 0].tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    check_array("query", query, memory.shape[1:])
    memory = _zero_padding(memory, mask)
    scores = jnp.sum(query[None] * memory, axis=-1) / jnp.sqrt(jnp.asarray(memory.shape[-1], memory.dtype))
    return _weighted_sum(scores, memory, mask)


def _weighted_sum(scores: jax.Array, memory: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns (context, weights) from scores ``[S, *batch]``, with the softmax and sum in the accumulator dtype."""
    sum_dtype = accumulator_dtype(memory.dtype)
    weights = jax.nn.softmax(scores.astype(sum_dtype), axis=0, where=mask)
    context = jnp.sum(weights[..., None] * memory.astype(sum_dtype), axis=0)
    return context.astype(memory.dtype), weights.astype(memory.dtype)


def _zero_padding(memory: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Sets invalid steps to 0, so that a NaN in the padding reaches neither the result nor the gradient."""
    if mask is None:
        return memory
    check_flags("mask", mask, memory.shape[:-1])
    return jnp.where(mask[..., None], memory, 0)
