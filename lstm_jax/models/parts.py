"""What the models share: dense layers, embeddings, dropout where there is a key."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init

from lstm_jax import regularizers
from lstm_jax.stack import Between
from lstm_jax.structs import accumulator_dtype


class Dense(NamedTuple):
    """``y = x W + b``."""

    kernel: jax.Array
    """``[M, N]``"""
    bias: jax.Array
    """``[N]``"""


def init_dense(key: jax.Array, inputs: int, outputs: int, dtype: jnp.dtype = jnp.float32) -> Dense:
    """Kernel Glorot uniform, bias 0."""
    drawn = jax_init.glorot_uniform()(key, (inputs, outputs), accumulator_dtype(dtype))
    return Dense(drawn.astype(dtype), jnp.zeros(outputs, dtype))


def dense(params: Dense, xs: jax.Array) -> jax.Array:
    """``[..., M]`` to ``[..., N]``."""
    return plus(xs @ params.kernel, params.bias)


def plus(xs: jax.Array, bias: jax.Array) -> jax.Array:
    """``xs [..., N]`` and a bias ``[N]``, whatever the caller's rules for adding arrays of other ranks."""
    return xs + jnp.expand_dims(bias, range(xs.ndim - 1))


def init_embedding(key: jax.Array, tokens: int, size: int, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """``[tokens, size]``, normal with deviation 0.1."""
    return (0.1 * jax.random.normal(key, (tokens, size), accumulator_dtype(dtype))).astype(dtype)


def dropout(key: jax.Array | None, xs: jax.Array, rate: float) -> jax.Array:
    """Each number of ``[T, ...]`` by itself; without a key nothing is dropped."""
    return xs if key is None else regularizers.step_dropout(key, xs, rate)


def locked(key: jax.Array | None, xs: jax.Array, rate: float) -> jax.Array:
    """One mask for all steps of ``[T, *batch, D]``; without a key nothing is dropped."""
    return xs if key is None else regularizers.locked_dropout(key, xs, rate)


def split(key: jax.Array | None, count: int) -> Any:
    """So many keys, or as many None."""
    return [None] * count if key is None else jax.random.split(key, count)


def locked_between(key: jax.Array | None, rate: float) -> Between:
    """``between`` of a stack: a mask for all steps of its own for each layer."""
    return lambda layer, xs, ys: locked(None if key is None else jax.random.fold_in(key, layer), ys, rate)
