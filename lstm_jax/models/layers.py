"""Building blocks that the models share, for models of your own too: dense layers, embeddings, dropout.

Each layer is a function of its parameters. Functions that drop numbers take ``key`` first and do nothing when it is
None, so one forward pass serves training (with a key) and evaluation (without one):

    input_key, output_key = split_key(key, 2)         # two keys, or None twice
    xs = locked_dropout(input_key, xs, 0.3)           # one mask for all steps
    _, ys = lstm(params.lstm, xs)
    logits = dense(params.head, dropout(output_key, ys, 0.5))
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init
from jax.typing import DTypeLike

from lstm_jax._core.layers import Between
from lstm_jax._core.structs import accumulator_dtype
from lstm_jax.cells.dense import add_bias
from lstm_jax.regularizers import Rate, dropout, locked_dropout

__all__ = [
    "DenseParams",
    "dense",
    "dropout",
    "init_dense",
    "init_embedding",
    "locked_dropout",
    "locked_dropout_between",
    "split_key",
]


class DenseParams(NamedTuple):
    """Parameters of a dense layer ``y = x W + b`` from ``M`` to ``N`` numbers."""

    kernel: jax.Array
    """``[M, N]``, W of the equation"""
    bias: jax.Array
    """``[N]``, b of the equation"""


def init_dense(key: jax.Array, input_size: int, output_size: int, dtype: DTypeLike = jnp.float32) -> DenseParams:
    """Draws the parameters of a dense layer: kernel Glorot uniform, bias 0.

    Args:
        key: a JAX random key.
        input_size: M, the numbers that the layer reads.
        output_size: N, the numbers that it returns.
        dtype: the dtype of the parameters; half precision is drawn in float32 and cast.
    Returns:
        DenseParams: kernel ``[M, N]`` and bias ``[N]``.

    Example:
        >>> import jax
        >>> from lstm_jax.models import layers
        >>> layers.init_dense(jax.random.key(0), 3, 5).kernel.shape
        (3, 5)
    """
    kernel = jax_init.glorot_uniform()(key, (input_size, output_size), accumulator_dtype(dtype))
    return DenseParams(kernel.astype(dtype), jnp.zeros(output_size, dtype))


def dense(params: DenseParams, xs: jax.Array) -> jax.Array:
    """Applies a dense layer to the last axis: ``y = x W + b``.

    Args:
        params: made by ``init_dense``, kernel ``[M, N]``.
        xs: ``[..., M]``.
    Returns:
        the outputs ``[..., N]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import layers
        >>> params = layers.init_dense(jax.random.key(0), 3, 5)
        >>> layers.dense(params, jnp.ones((7, 2, 3))).shape
        (7, 2, 5)
    """
    return add_bias(xs @ params.kernel, params.bias)


def init_embedding(key: jax.Array, vocab_size: int, embedding_size: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Draws an embedding table from a normal distribution with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens.
        embedding_size: E, the numbers that represent a token.
        dtype: the dtype of the table; half precision is drawn in float32 and cast.
    Returns:
        the table ``[V, E]``; ``table[tokens]`` embeds integers ``[...]`` as ``[..., E]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import layers
        >>> table = layers.init_embedding(jax.random.key(0), 10, 4)
        >>> table[jnp.array([[1, 2], [3, 0], [9, 9]])].shape
        (3, 2, 4)
    """
    return (0.1 * jax.random.normal(key, (vocab_size, embedding_size), accumulator_dtype(dtype))).astype(dtype)


def split_key(key: jax.Array | None, count: int) -> list[jax.Array] | list[None]:
    """Splits a key that may be missing.

    Args:
        key: a JAX random key, or None for a pass without dropout.
        count: the number of keys to make.
    Returns:
        ``count`` keys; ``count`` times None if ``key`` is None.

    Example:
        >>> from lstm_jax.models import layers
        >>> input_key, output_key = layers.split_key(None, 2)
        >>> input_key is None
        True
    """
    return [None] * count if key is None else list(jax.random.split(key, count))


def locked_dropout_between(key: jax.Array | None, rate: Rate) -> Between:
    """Makes the option ``between`` of ``lstm_stack`` that applies ``locked_dropout`` from layer to layer.

    Every layer has a mask of its own, the same at all steps.

    Args:
        key: a JAX random key; None means no dropout.
        rate: the probability of dropping a number, from 0 to below 1.
    Returns:
        ``between(layer, inputs, outputs) -> inputs of the next layer``.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> key = jax.random.key(0)
        >>> params = lj.init_stack(key, 3, 8, 2)
        >>> between = lj.models.layers.locked_dropout_between(key, 0.5)
        >>> lj.lstm_stack(params, jnp.ones((5, 3)), between=between)[1].shape
        (5, 8)
    """

    def between(layer: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        layer_key = None if key is None else jax.random.fold_in(key, layer)
        return locked_dropout(layer_key, outputs, rate)

    return between
