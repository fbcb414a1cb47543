"""Regularization penalties on layer outputs and weights, to be added to a loss."""

import re

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree
from lstm_jax.regularizers.masks import Rate


def activation_penalty(ys: jax.Array) -> jax.Array:
    """Computes activation regularization (AR), the mean of ``ys ** 2`` over all elements.

    Source: Merity, McCann and Socher 2017, arXiv:1708.01009.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> float(lj.regularizers.activation_penalty(jnp.array([[1.0], [3.0]])))
        5.0
    """
    return jnp.mean(ys * ys)


def temporal_activation_penalty(ys: jax.Array) -> jax.Array:
    """Computes temporal activation regularization (TAR), the mean of ``(ys[t + 1] - ys[t]) ** 2`` over ``ys [T, ...]``.

    Source: Merity, McCann and Socher 2017, arXiv:1708.01009.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> float(lj.regularizers.temporal_activation_penalty(jnp.array([[1.0], [3.0]])))
        4.0
    """
    changes = ys[1:] - ys[:-1]
    return jnp.mean(changes * changes)


def weight_penalty(params: PyTree, *, l1: Rate = 0.0, l2: Rate = 0.0, pattern: str = "") -> jax.Array:
    """Computes ``l1 * sum |w| + l2 * sum w ** 2`` over the parameters whose path matches a pattern.

    Args:
        params: a pytree of arrays.
        l1: coefficient of the sum of absolute values.
        l2: coefficient of the sum of squares.
        pattern: a regular expression to search for in each parameter path, such as ``encoder.recurrent_kernel``; ""
            matches every path.
    Returns:
        The penalty, a scalar.
    Raises:
        ValueError: if no path matches ``pattern``.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> params = {"head": {"kernel": jnp.full((2, 2), -3.0), "bias": jnp.ones(2)}}
        >>> float(lj.regularizers.weight_penalty(params, l1=0.5, pattern="kernel"))
        6.0
    """
    paths, leaves = zip(*jax.tree_util.tree_flatten_with_path(params)[0], strict=True)
    path_names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    matching = [leaf for name, leaf in zip(path_names, leaves, strict=True) if re.search(pattern, name)]
    if not matching:
        raise ValueError(f"pattern: got {pattern!r}, which no parameter's path matches, want a match in {path_names}")
    leaf_penalties = [l1 * jnp.sum(jnp.abs(leaf)) + l2 * jnp.sum(leaf * leaf) for leaf in matching]
    return sum(leaf_penalties[1:], leaf_penalties[0])
