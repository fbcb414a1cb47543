"""What the models share: dense layers, embeddings, dropout where there is a key."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init

from lstm_jax import regularizers


class Dense(NamedTuple):
    """``y = x W + b``."""

    kernel: jax.Array
    """``[M, N]``"""
    bias: jax.Array
    """``[N]``"""


def init_dense(key: jax.Array, inputs: int, outputs: int) -> Dense:
    """Kernel Glorot uniform, bias 0."""
    return Dense(jax_init.glorot_uniform()(key, (inputs, outputs), jnp.float32), jnp.zeros(outputs))


def dense(params: Dense, xs: jax.Array) -> jax.Array:
    """``[..., M]`` to ``[..., N]``."""
    return xs @ params.kernel + params.bias


def init_embedding(key: jax.Array, tokens: int, size: int, scale: float = 0.1) -> jax.Array:
    """``[tokens, size]``, normal with deviation ``scale``."""
    return scale * jax.random.normal(key, (tokens, size))


def dropout(key: jax.Array | None, xs: jax.Array, rate: float) -> jax.Array:
    """Each number of ``[T, ...]`` by itself; without a key nothing is dropped."""
    return xs if key is None else regularizers.step_dropout(key, xs, rate)


def locked(key: jax.Array | None, xs: jax.Array, rate: float) -> jax.Array:
    """One mask for all steps of ``[T, *batch, D]``; without a key nothing is dropped."""
    return xs if key is None else regularizers.locked_dropout(key, xs, rate)


def split(key: jax.Array | None, count: int) -> Any:
    """So many keys, or as many None."""
    return [None] * count if key is None else jax.random.split(key, count)
