"""The loss interface of ``lstm_jax.training``, and checks that a loss follows it.

A loss is a pure function:

    loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))

``carry`` passes from each batch to the next, such as the LSTM state of a language model; no gradient flows through it
between batches. ``key`` is None during evaluation. ``metrics`` is a dict of accumulators, see
``lstm_jax.training.metrics``. A loss without a carry has the form ``loss(params, batch, key) -> (loss, metrics)`` and
the decorator ``stateless``.
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
    """Converts ``loss(params, batch, key) -> (loss, metrics)`` to a ``LossFn`` that returns its carry unchanged.

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
    """Checks that a loss is callable and that its signature does not have three required parameters.

    Raises:
        ValueError: the loss is not callable, or it has three required parameters and lacks ``stateless``.
    """
    if not callable(loss_fn):
        raise ValueError(f"loss_fn: got {type(loss_fn).__name__}, want a function (params, carry, batch, key)")
    try:
        parameters = inspect.signature(loss_fn, follow_wrapped=False).parameters.values()
    except ValueError:
        return
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(required) == 3 and all(p.kind is not p.VAR_POSITIONAL for p in parameters):
        raise ValueError(
            f"loss_fn: takes {', '.join(p.name for p in required)}, want (params, carry, batch, key); a loss "
            "without a carry needs @training.stateless"
        )


def check_returned(returned: Any, carry: PyTree) -> None:
    """Checks that a loss returned ``(loss, (carry, metrics))``.

    Args:
        returned: the result of the loss.
        carry: the carry passed to the loss; the returned carry must have its structure.
    Raises:
        ValueError: the result has another structure, or a metric is not an accumulator; the message names it.
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
            raise ValueError(f"loss_fn: metrics[{name!r}] is no accumulator; wrap arrays in metrics.mean(...)")
    carry_structure = str(jax.tree.structure(carry))
    new_carry_structure = str(jax.tree.structure(new_carry))
    if carry_structure != new_carry_structure:
        raise ValueError(
            f"carry: got {carry_structure}, but the loss returns {new_carry_structure}; pass the carry of the first "
            "batch as carry= to fit or init_state, and to Validation"
        )


def with_loss(metrics: dict[str, Any], loss: jax.Array) -> dict[str, Any]:
    """Adds the loss to the metrics unless they already contain ``loss``.

    Args:
        metrics: dict of accumulators.
        loss: scalar, averaged over batches with equal weights.
    Returns:
        metrics: dict of accumulators that starts with ``loss``.
    """
    return {"loss": single(loss)} | metrics


def single(value: Any) -> Mean:
    """Returns the accumulator of one scalar with weight 1."""
    return Mean(value.astype(jnp.float32), jnp.asarray(1.0, jnp.float32))
