"""What the models share: dense layers, embeddings, dropout where there is a key."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init

from lstm_jax import regularizers
from lstm_jax._core.stack import Between
from lstm_jax._core.structs import accumulator_dtype


class DenseParams(NamedTuple):
    """``y = x W + b``."""

    kernel: jax.Array
    """``[M, N]``"""
    bias: jax.Array
    """``[N]``"""


def init_dense(key: jax.Array, inputs: int, outputs: int, dtype: jnp.dtype = jnp.float32) -> DenseParams:
    """Kernel Glorot uniform, bias 0."""
    drawn = jax_init.glorot_uniform()(key, (inputs, outputs), accumulator_dtype(dtype))
    return DenseParams(drawn.astype(dtype), jnp.zeros(outputs, dtype))


def dense(params: DenseParams, xs: jax.Array) -> jax.Array:
    """``[..., M]`` to ``[..., N]``."""
    return add_bias(xs @ params.kernel, params.bias)


def add_bias(xs: jax.Array, bias: jax.Array) -> jax.Array:
    """``xs [..., N]`` and a bias ``[N]``, whatever the caller's rules for adding arrays of other ranks."""
    return xs + jnp.expand_dims(bias, range(xs.ndim - 1))


def init_embedding(key: jax.Array, tokens: int, size: int, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """``[tokens, size]``, normal with deviation 0.1."""
    return (0.1 * jax.random.normal(key, (tokens, size), accumulator_dtype(dtype))).astype(dtype)


def dropout(key: jax.Array | None, xs: jax.Array, rate: float) -> jax.Array:
    """Each number of ``[T, ...]`` by itself; without a key nothing is dropped."""
    return xs if key is None else regularizers.step_dropout(key, xs, rate)


def locked_dropout(key: jax.Array | None, xs: jax.Array, rate: float) -> jax.Array:
    """One mask for all steps of ``[T, *batch, D]``; without a key nothing is dropped."""
    return xs if key is None else regularizers.locked_dropout(key, xs, rate)


def split_key(key: jax.Array | None, count: int) -> Any:
    """So many keys, or as many None."""
    return [None] * count if key is None else jax.random.split(key, count)


def locked_dropout_between(key: jax.Array | None, rate: float) -> Between:
    """``between`` of a stack: a mask for all steps of its own for each layer."""
    return lambda layer, xs, ys: locked_dropout(None if key is None else jax.random.fold_in(key, layer), ys, rate)
