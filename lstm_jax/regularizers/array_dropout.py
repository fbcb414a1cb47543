"""Dropout of input and output sequences, embedding rows and weights.

With ``key=None``, for evaluation, each function returns its input unchanged.
"""

import jax

from lstm_jax._core.structs import PyTree
from lstm_jax.regularizers.masks import Rate, check_rate, draw_per_step, is_zero_rate, scaled_mask


def dropout(key: jax.Array | None, xs: jax.Array, rate: Rate, start: int | jax.Array = 0) -> jax.Array:
    """Drops elements of a sequence independently at each step.

    Source: Zaremba, Sutskever and Vinyals 2014, arXiv:1409.2329.

    Args:
        key: a JAX random key; None disables dropout.
        xs: ``[T, ...]``.
        rate: probability of dropping each element; kept elements are divided by ``1 - rate``.
        start: the absolute step of ``xs[0]``, for a sequence processed in segments.
    Returns:
        The sequence ``[T, ...]`` with dropped elements set to 0.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above.

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
    """Drops the same features at all steps of a sequence: variational dropout of inputs or outputs.

    Source: Gal and Ghahramani 2016, arXiv:1512.05287.

    Args:
        key: a JAX random key; None disables dropout.
        xs: ``[T, *batch, D]``.
        rate: probability of dropping each element; kept elements are divided by ``1 - rate``.
    Returns:
        The sequence ``[T, *batch, D]`` with the dropped features set to 0 at all steps.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above.

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
    """Drops whole rows of an embedding table, so that a dropped token is 0 at all its occurrences.

    Source: Gal and Ghahramani 2016, arXiv:1512.05287.

    Args:
        key: a JAX random key; None disables dropout.
        table: ``[V, E]``, one row per token of the vocabulary.
        rate: probability of dropping each row; kept rows are divided by ``1 - rate``.
    Returns:
        The table ``[V, E]`` with dropped rows set to 0.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above.

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
    """Drops weights of a layer, the same at all steps: DropConnect.

    Sources: Wan et al. 2013; for the recurrent weights of an LSTM, Merity, Keskar and Socher 2018, arXiv:1708.02182.

    Args:
        key: a JAX random key; None disables dropout.
        params: a NamedTuple of parameters, such as ``LSTMParams``.
        rate: probability of dropping each weight; kept weights are divided by ``1 - rate``.
        names: fields of ``params`` to apply DropConnect to.
        whole_rows: if True, drop whole rows (all weights of one input or unit) instead of single weights.
    Returns:
        The parameters with dropped weights set to 0.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above, or ``params`` lacks one of ``names``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> key = jax.random.key(0)
        >>> params = lj.regularizers.drop_connect(key, lj.init_params(key, 3, 8), 0.5)
        >>> bool((params.recurrent_kernel == 0).any()), bool((params.input_kernel == 0).any())
        (True, False)
    """
    check_rate("rate", rate)
    missing_names = [name for name in names if not hasattr(params, name)]
    if missing_names:
        raise ValueError(f"names: got {missing_names[0]!r}, want some of {', '.join(map(repr, params._fields))}")
    if key is None or is_zero_rate(rate):
        return params
    masked_kernels = {}
    for name, kernel_key in zip(names, jax.random.split(key, len(names)), strict=True):
        kernel = getattr(params, name)
        mask_shape = (*kernel.shape[:-1], 1) if whole_rows else kernel.shape
        masked_kernels[name] = kernel * scaled_mask(kernel_key, rate, mask_shape, kernel.dtype)
    return params._replace(**masked_kernels)
