"""Monitoring of gradient norms and update ratios of each parameter during training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree

Row = dict[str, Any]
"""One row of a training history: values by name."""


class MonitorState(NamedTuple):
    """State of ``monitor``: the state of the wrapped optimizer and the measurements of the last step."""

    inner: Any
    """the state of the wrapped optimizer"""
    gradient_norms: PyTree
    """the norm of the gradient of each parameter"""
    update_ratios: PyTree
    """|update| / |parameter| of each parameter, typically about 1e-3 for Adam; NaN for a parameter that is all 0"""


def monitor(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that its state records the gradient norm and update ratio of each parameter.

    The updates are unchanged. Read the measurements with ``monitor_readings``, or pass ``recorder`` to ``training.fit``
    as a callback.

    Args:
        optimizer: any Optax gradient transformation.
    Returns:
        a gradient transformation with state ``MonitorState``, whose ``update`` requires ``params``.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj, optax
        >>> optimizer, params = lj.diagnostics.monitor(optax.sgd(0.1)), {"w": jnp.array([3.0, 4.0])}
        >>> updates, state = optimizer.update({"w": jnp.array([0.0, 5.0])}, optimizer.init(params), params)
        >>> float(state.gradient_norms["w"]), round(float(state.update_ratios["w"]), 3)
        (5.0, 0.1)
    """
    inner = optax.with_extra_args_support(optimizer)

    def zero_scalars(params: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.zeros((), jnp.float32), params)

    def init(params: PyTree) -> MonitorState:
        return MonitorState(inner.init(params), zero_scalars(params), zero_scalars(params))

    def update(gradient: PyTree, state: MonitorState, params: Any = None, **extra: Any) -> tuple[PyTree, MonitorState]:
        if params is None:
            raise ValueError("params: got None, want the parameters: ratios are relative to them")
        updates, inner_state = inner.update(gradient, state.inner, params, **extra)
        ratios = jax.tree.map(_update_ratio, updates, params)
        return updates, MonitorState(inner_state, jax.tree.map(_norm, gradient), ratios)

    return optax.GradientTransformationExtraArgs(init, update)


def monitor_readings(state: Any) -> Row:
    """Returns the measurements of ``monitor`` at the last step, by parameter name.

    Args:
        state: the ``opt_state`` of a ``TrainState``, or any tree that contains a ``MonitorState``.
    Returns:
        floats by names such as ``"gradient_norm layers.0.bias"`` and ``"update_ratio layers.0.bias"``.
    Raises:
        ValueError: if the tree contains no ``MonitorState``.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj, optax
        >>> optimizer, params = lj.diagnostics.monitor(optax.sgd(0.1)), {"w": jnp.array([3.0, 4.0])}
        >>> _, state = optimizer.update({"w": jnp.array([0.0, 5.0])}, optimizer.init(params), params)
        >>> lj.diagnostics.monitor_readings(state)["gradient_norm w"]
        5.0
    """
    monitor_states = [leaf for leaf in jax.tree.leaves(state, is_leaf=_is_monitor_state) if _is_monitor_state(leaf)]
    if not monitor_states:
        raise ValueError("state: got no state of diagnostics.monitor, want monitor(optimizer) as the optimizer")
    row: Row = {}
    norms, ratios = monitor_states[0].gradient_norms, monitor_states[0].update_ratios
    for quantity, tree in (("gradient_norm", norms), ("update_ratio", ratios)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            row[f"{quantity} {jax.tree_util.keystr(path, simple=True, separator='.')}"] = float(leaf)
    return row


def recorder(rows: list[Row]) -> Callable[[Row, Any], None]:
    """Returns a callback for ``training.fit`` that appends the readings of each logged step to a list.

    Args:
        rows: the list to append to; each new row has ``"step"`` and the entries of ``monitor_readings``.
    Returns:
        a function ``(row, train_state) -> None`` for ``callbacks`` of ``fit``; the optimizer must be wrapped by
        ``monitor``.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj, optax, types
        >>> state = lj.diagnostics.monitor(optax.sgd(0.1)).init({"w": jnp.ones(2)})
        >>> rows = []
        >>> lj.diagnostics.recorder(rows)({"step": 7}, types.SimpleNamespace(opt_state=state))  # fit does this
        >>> rows
        [{'step': 7, 'gradient_norm w': 0.0, 'update_ratio w': 0.0}]
    """

    def record(row: Row, state: Any) -> None:
        rows.append({"step": row["step"]} | monitor_readings(state.opt_state))

    return record


def _is_monitor_state(leaf: Any) -> bool:
    return isinstance(leaf, MonitorState)


def _update_ratio(update: jax.Array, param: jax.Array) -> jax.Array:
    """Returns |update| / |param|, or NaN if the parameter is all 0."""
    norm = _norm(param)
    return jnp.where(norm > 0, _norm(update) / jnp.where(norm > 0, norm, 1), jnp.nan)


def _norm(leaf: jax.Array) -> jax.Array:
    return jnp.linalg.norm(leaf.astype(jnp.float32).ravel())
