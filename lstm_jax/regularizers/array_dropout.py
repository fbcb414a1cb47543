"""Dropout of what a layer reads and returns, of embeddings and of weights: functions of arrays, for any model.

``key=None`` means evaluation: each function then returns what it was given.
"""

import jax

from lstm_jax._core.structs import PyTree
from lstm_jax.regularizers.masks import Rate, check_rate, draw_per_step, is_zero_rate, scaled_mask


def dropout(key: jax.Array | None, xs: jax.Array, rate: Rate, start: int | jax.Array = 0) -> jax.Array:
    """Drops each number of a sequence independently, with a new mask at each step (Zaremba, Sutskever and Vinyals 2014,
    arXiv:1409.2329).

    Args:
        key: a JAX random key; None means no dropout.
        xs: ``[T, ...]``.
        rate: the probability of dropping a number; those that are kept are divided by ``1 - rate``.
        start: the absolute step of ``xs[0]``, for a sequence run in pieces.
    Returns:
        the sequence ``[T, ...]`` with numbers set to 0.
    Raises:
        ValueError: the rate is not from 0 to below 1.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> xs = lj.regularizers.dropout(jax.random.key(0), jnp.ones((5, 2, 3)), 0.5)
        >>> set(xs.ravel().tolist()) == {0.0, 2.0}
        True
    """
    check_rate("rate", rate)
    if key is None or is_zero_rate(rate):
        return xs
    return xs * draw_per_step(key, start, xs.shape[0], lambda key: scaled_mask(key, rate, xs.shape[1:], xs.dtype))


def locked_dropout(key: jax.Array | None, xs: jax.Array, rate: Rate) -> jax.Array:
    """Drops numbers of a sequence by one mask for all steps: variational dropout of inputs or outputs (Gal and
    Ghahramani 2016, arXiv:1512.05287).

    Args:
        key: a JAX random key; None means no dropout.
        xs: ``[T, *batch, D]``.
        rate: the probability of dropping a number; those that are kept are divided by ``1 - rate``.
    Returns:
        the sequence ``[T, *batch, D]`` with the same numbers of every step set to 0.
    Raises:
        ValueError: the rate is not from 0 to below 1.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> xs = lj.regularizers.locked_dropout(jax.random.key(0), jnp.ones((5, 2, 3)), 0.5)
        >>> bool((xs == xs[:1]).all())
        True
    """
    check_rate("rate", rate)
    if key is None or is_zero_rate(rate):
        return xs
    return xs * scaled_mask(key, rate, (1, *xs.shape[1:]), xs.dtype)


def embedding_dropout(key: jax.Array | None, table: jax.Array, rate: Rate) -> jax.Array:
    """Drops whole rows of an embedding, so a dropped token is 0 wherever it occurs (Gal and Ghahramani 2016,
    arXiv:1512.05287).

    Args:
        key: a JAX random key; None means no dropout.
        table: ``[V, E]``, a row for each token of the vocabulary.
        rate: the probability of dropping a row; those that are kept are divided by ``1 - rate``.
    Returns:
        the table ``[V, E]`` with rows set to 0.
    Raises:
        ValueError: the rate is not from 0 to below 1.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> lj.regularizers.embedding_dropout(jax.random.key(0), jnp.ones((10, 4)), 0.1).shape
        (10, 4)
    """
    check_rate("rate", rate)
    if key is None or is_zero_rate(rate):
        return table
    return table * scaled_mask(key, rate, (table.shape[0], 1), table.dtype)


def drop_connect(
    key: jax.Array | None,
    params: PyTree,
    rate: Rate,
    *,
    names: tuple[str, ...] = ("recurrent_kernel",),
    whole_rows: bool = False,
) -> PyTree:
    """Drops weights of a layer, the same ones at all steps: DropConnect (Wan et al. 2013), for LSTMs by Merity, Keskar
    and Socher 2018 (arXiv:1708.02182).

    Args:
        key: a JAX random key; None means no dropout.
        params: a NamedTuple of parameters, such as ``LSTMParams``.
        rate: the probability of dropping a weight; those that are kept are divided by ``1 - rate``.
        names: the fields of ``params`` whose weights are dropped.
        whole_rows: True drops whole rows, all weights of an input or of a unit, instead of single weights.
    Returns:
        the parameters with weights set to 0.
    Raises:
        ValueError: the rate is not from 0 to below 1, or ``params`` lacks one of the names.

    Example:
        >>> import jax, lstm_jax as lj
        >>> key = jax.random.key(0)
        >>> params = lj.regularizers.drop_connect(key, lj.init_params(key, 3, 8), 0.5)
        >>> bool((params.recurrent_kernel == 0).any()), bool((params.input_kernel == 0).any())
        (True, False)
    """
    check_rate("rate", rate)
    absent = [name for name in names if not hasattr(params, name)]
    if absent:
        raise ValueError(f"names: got {absent[0]!r}, want some of {', '.join(map(repr, params._fields))}")
    if key is None or is_zero_rate(rate):
        return params
    dropped = {}
    for name, kernel_key in zip(names, jax.random.split(key, len(names)), strict=True):
        kernel = getattr(params, name)
        shape = (*kernel.shape[:-1], 1) if whole_rows else kernel.shape
        dropped[name] = kernel * scaled_mask(kernel_key, rate, shape, kernel.dtype)
    return params._replace(**dropped)
