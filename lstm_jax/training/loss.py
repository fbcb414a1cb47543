"""The contract of a loss.

A loss takes everything and returns everything:

    loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))

``carry`` is what one batch hands to the next, such as the state of an LSTM that reads on; it is not differentiated from
batch to batch. ``key`` is None at evaluation. ``metrics`` is a dict of accumulators, see ``metrics``. A loss that
carries nothing is written ``loss(params, batch, key) -> (loss, metrics)`` under the decorator ``stateless``.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree
from lstm_jax.training.metrics import Mean

LossFn = Callable[[PyTree, PyTree, PyTree, Any], tuple[jax.Array, tuple[PyTree, dict[str, Any]]]]
"""``loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))``."""


def stateless(loss: Callable[[PyTree, PyTree, Any], tuple[jax.Array, dict[str, Any]]]) -> LossFn:
    """Turns ``loss(params, batch, key) -> (loss, metrics)`` into a loss whose carry passes unchanged.

    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax import training
        >>> @training.stateless
        ... def loss_fn(params, batch, key):
        ...     return jnp.mean((params - batch) ** 2), {}
        >>> loss, (carry, metrics) = loss_fn(jnp.float32(1), None, jnp.zeros(3), None)
        >>> float(loss), carry, metrics
        (1.0, None, {})
    """

    @wraps(loss)
    def loss_fn(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
        returned = loss(params, batch, key)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise ValueError(f"loss: got {type(returned).__name__}, want (loss, metrics), metrics {{}} for none")
        return returned[0], (carry, returned[1])

    return loss_fn


def check_loss(loss_fn: LossFn) -> None:
    """Checks that a loss takes four arguments, as far as its signature tells.

    Raises:
        ValueError: it is no function, or it takes three arguments; the message names ``stateless``.
    """
    if not callable(loss_fn):
        raise ValueError(f"loss_fn: got {type(loss_fn).__name__}, want a function (params, carry, batch, key)")
    try:
        parameters = inspect.signature(loss_fn, follow_wrapped=False).parameters.values()
    except ValueError:
        return
    required = [item for item in parameters if item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD]
    if len(required) == 3 and all(item.kind is not item.VAR_POSITIONAL for item in parameters):
        raise ValueError(
            f"loss_fn: takes {', '.join(item.name for item in required)}, want (params, carry, batch, key); a loss "
            "that carries nothing stands under @training.stateless"
        )


def check_returned(returned: Any, carry: PyTree) -> None:
    """Checks that a loss returned ``(loss, (carry, metrics))``.

    Args:
        returned: what the loss returned.
        carry: the carry that it was given; the one that it returns has the same structure.
    Raises:
        ValueError: something in it has another form; the message says what.
    """
    is_pair = isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], tuple)
    if not is_pair or len(returned[1]) != 2:
        raise ValueError(
            "loss_fn: want (loss, (carry, metrics)), or (loss, metrics) under @training.stateless, metrics being a "
            f"dict, {{}} for none; got {jax.tree.map(jnp.shape, returned)}"
        )
    new_carry, metrics = returned[1]
    if not isinstance(metrics, dict):
        raise ValueError(
            f"loss_fn: its metrics are {type(metrics).__name__}, want a dict of accumulators, {{}} for none"
        )
    for name, accumulator in metrics.items():
        if not hasattr(accumulator, "value"):
            raise ValueError(f"loss_fn: metrics[{name!r}] is no accumulator; wrap numbers in metrics.mean(...)")
    given, left = str(jax.tree.structure(carry)), str(jax.tree.structure(new_carry))
    if given != left:
        raise ValueError(
            f"carry: got {given}, but the loss returns {left}; give fit or init_state carry=, what the first batch "
            "starts from, and Validation too"
        )


def with_loss(metrics: dict[str, Any], loss: jax.Array) -> dict[str, Any]:
    """Adds the loss to metrics that have no ``loss`` of their own.

    Args:
        metrics: accumulators by name.
        loss: scalar; each batch then counts as one, whatever its size.
    Returns:
        metrics: the accumulators, ``loss`` the first of them.
    """
    return {"loss": single(loss)} | metrics


def single(value: Any) -> Mean:
    """Accumulates one scalar with weight 1."""
    return Mean(value.astype(jnp.float32), jnp.asarray(1.0, jnp.float32))
