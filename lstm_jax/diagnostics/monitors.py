"""Monitors: the size of each parameter's gradient and update while training goes on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree

Row = dict[str, Any]
"""One row of a training history, values by name."""


class MonitorState(NamedTuple):
    """State of ``monitor``: the state of the optimizer, and what was measured at the last step."""

    inner: Any
    """the state of the monitored optimizer"""
    gradient_norms: PyTree
    """for each parameter the norm of its gradient"""
    update_ratios: PyTree
    """for each parameter |update| / |parameter|, about 1e-3 for Adam as a rule; NaN for a parameter that is all 0"""


def monitor(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that its state holds the norms of each parameter's gradient and update.

    Updates are those of the optimizer itself. ``monitor_readings`` reads what was measured, and ``recorder`` does so
    while ``training.fit`` runs.

    Args:
        optimizer: any transformation of Optax.
    Returns:
        an optimizer with the state ``MonitorState``, whose ``update`` needs the parameters.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj, optax
        >>> optimizer, params = lj.diagnostics.monitor(optax.sgd(0.1)), {"w": jnp.array([3.0, 4.0])}
        >>> updates, state = optimizer.update({"w": jnp.array([0.0, 5.0])}, optimizer.init(params), params)
        >>> float(state.gradient_norms["w"]), round(float(state.update_ratios["w"]), 3)
        (5.0, 0.1)
    """
    inner = optax.with_extra_args_support(optimizer)

    def zeros(params: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.zeros((), jnp.float32), params)

    def init(params: PyTree) -> MonitorState:
        return MonitorState(inner.init(params), zeros(params), zeros(params))

    def update(gradient: PyTree, state: MonitorState, params: Any = None, **extra: Any) -> tuple[PyTree, MonitorState]:
        if params is None:
            raise ValueError("params: got None, want the parameters: ratios are relative to them")
        updates, new = inner.update(gradient, state.inner, params, **extra)
        ratios = jax.tree.map(_ratio, updates, params)
        return updates, MonitorState(new, jax.tree.map(_norm, gradient), ratios)

    return optax.GradientTransformationExtraArgs(init, update)


def monitor_readings(state: Any) -> Row:
    """Returns what ``monitor`` measured at the last step, by the names of the parameters.

    Args:
        state: the ``opt_state`` of a ``TrainState``, or any tree that holds one ``MonitorState``.
    Returns:
        numbers by names such as ``"gradient_norm layers.0.bias"`` and ``"update_ratio layers.0.bias"``.
    Raises:
        ValueError: if no ``MonitorState`` is in the tree.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj, optax
        >>> optimizer, params = lj.diagnostics.monitor(optax.sgd(0.1)), {"w": jnp.array([3.0, 4.0])}
        >>> _, state = optimizer.update({"w": jnp.array([0.0, 5.0])}, optimizer.init(params), params)
        >>> lj.diagnostics.monitor_readings(state)["gradient_norm w"]
        5.0
    """
    monitors = [leaf for leaf in jax.tree.leaves(state, is_leaf=_is_monitor_state) if _is_monitor_state(leaf)]
    if not monitors:
        raise ValueError("state: got no state of diagnostics.monitor, want monitor(optimizer) as the optimizer")
    row: Row = {}
    for quantity, tree in (("gradient_norm", monitors[0].gradient_norms), ("update_ratio", monitors[0].update_ratios)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            row[f"{quantity} {jax.tree_util.keystr(path, simple=True, separator='.')}"] = float(leaf)
    return row


def recorder(rows: list[Row]) -> Callable[[Row, Any], None]:
    """Makes a callback for ``training.fit`` that appends the readings of each logged step to a list.

    Args:
        rows: the list; each appended row has ``"step"`` and the entries of ``monitor_readings``.
    Returns:
        a function ``(row, train_state) -> None`` for the argument ``callbacks`` of ``fit``, whose optimizer must come
        from ``monitor``.

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


def _ratio(update: jax.Array, leaf: jax.Array) -> jax.Array:
    norm = _norm(leaf)
    return jnp.where(norm > 0, _norm(update) / jnp.where(norm > 0, norm, 1), jnp.nan)


def _norm(leaf: jax.Array) -> jax.Array:
    return jnp.linalg.norm(leaf.astype(jnp.float32).ravel())
