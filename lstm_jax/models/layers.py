"""Building blocks of the models: dense layers, embeddings and dropout.

Each layer is a pure function of its parameters. Dropout functions take ``key`` first and return their input unchanged
if it is None, so one forward pass serves both training (with a key) and evaluation (without a key):

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
    """Parameters of a dense layer ``y = x W + b`` from M to N features."""

    kernel: jax.Array
    """``[M, N]``, W of the equation"""
    bias: jax.Array
    """``[N]``, b of the equation"""


def init_dense(key: jax.Array, input_size: int, output_size: int, dtype: DTypeLike = jnp.float32) -> DenseParams:
    """Initializes the parameters of a dense layer: a Glorot uniform kernel and a zero bias.

    Args:
        key: a JAX random key.
        input_size: M, the input features.
        output_size: N, the output features.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
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
        params: parameters from ``init_dense``, kernel ``[M, N]``.
        xs: ``[..., M]``.
    Returns:
        The outputs ``[..., N]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import layers
        >>> params = layers.init_dense(jax.random.key(0), 3, 5)
        >>> layers.dense(params, jnp.ones((7, 2, 3))).shape
        (7, 2, 5)
    """
    return add_bias(xs @ params.kernel, params.bias)


def init_embedding(key: jax.Array, vocab_size: int, embedding_size: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Initializes an embedding table from a normal distribution with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens.
        embedding_size: E, the features per token.
        dtype: dtype of the table; half-precision tables are sampled in float32 and cast.
    Returns:
        The table ``[V, E]``; ``table[tokens]`` maps integers ``[...]`` to embeddings ``[..., E]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import layers
        >>> table = layers.init_embedding(jax.random.key(0), 10, 4)
        >>> table[jnp.array([[1, 2], [3, 0], [9, 9]])].shape
        (3, 2, 4)
    """
    return (0.1 * jax.random.normal(key, (vocab_size, embedding_size), accumulator_dtype(dtype))).astype(dtype)


def split_key(key: jax.Array | None, count: int) -> list[jax.Array] | list[None]:
    """Splits a random key, or returns a list of None if the key is None.

    Args:
        key: a JAX random key, or None to disable dropout.
        count: number of keys.
    Returns:
        A list of ``count`` keys, or of ``count`` times None.

    Example:
        >>> from lstm_jax.models import layers
        >>> input_key, output_key = layers.split_key(None, 2)
        >>> input_key is None
        True
    """
    return [None] * count if key is None else list(jax.random.split(key, count))


def locked_dropout_between(key: jax.Array | None, rate: Rate) -> Between:
    """Returns a ``between`` function for ``lstm_stack`` that applies ``locked_dropout`` to the output of each layer.

    Each layer has a separate mask, which is the same at all steps.

    Args:
        key: a JAX random key; None disables dropout.
        rate: probability of dropping each element, at least 0 and below 1.
    Returns:
        A function ``between(layer, inputs, outputs) -> next_inputs``.

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
