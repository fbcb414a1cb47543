"""How large gradients and updates are, parameter by parameter, while training goes on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree

Row = dict[str, Any]


class MonitorState(NamedTuple):
    """State of ``monitor``: the optimiser's own, and what the last step measured, a number for each parameter."""

    inner: Any
    gradient_norms: PyTree
    update_ratios: PyTree
    """|change| / |parameter|; NaN for a parameter that is 0 throughout; about 1e-3 is usual for Adam"""


def monitor(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The optimiser, with the norm of each parameter's gradient and of its change in its state.

    rows = []
    training.fit(
        loss, params, batches, diagnostics.monitor(training.adam(2e-3)), callbacks=[diagnostics.recorder(rows)], ...
    )
    pictures.plot_readings(rows, Path("gradients.png"))              # from lstm_jax.diagnostics import pictures
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
        return updates, MonitorState(new, jax.tree.map(_size, gradient), ratios)

    return optax.GradientTransformationExtraArgs(init, update)


def monitor_readings(state: Any) -> Row:
    """What ``monitor`` measured at the last step, by the parameters' names: ``gradient_norm layers.0.bias``.

    Args:
        state: ``opt_state`` of a ``TrainState``, or anything that holds it.
    Raises:
        ValueError: no ``monitor`` in it.
    """
    holds = [leaf for leaf in jax.tree.leaves(state, is_leaf=_is_monitored) if _is_monitored(leaf)]
    if not holds:
        raise ValueError("state: got no state of diagnostics.monitor, want monitor(optimizer) as the optimiser")
    row: Row = {}
    for kind, tree in (("gradient_norm", holds[0].gradient_norms), ("update_ratio", holds[0].update_ratios)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            row[f"{kind} {jax.tree_util.keystr(path, simple=True, separator='.')}"] = float(leaf)
    return row


def recorder(rows: list[Row]) -> Callable[[Row, Any], None]:
    """A callback for ``fit`` that adds the readings of each reported step, with ``step``, to ``rows``."""

    def record(row: Row, state: Any) -> None:
        rows.append({"step": row["step"]} | monitor_readings(state.opt_state))

    return record


def _is_monitored(leaf: Any) -> bool:
    return isinstance(leaf, MonitorState)


def _ratio(by: jax.Array, leaf: jax.Array) -> jax.Array:
    size = _size(leaf)
    return jnp.where(size > 0, _size(by) / jnp.where(size > 0, size, 1), jnp.nan)


def _size(leaf: jax.Array) -> jax.Array:
    return jnp.linalg.norm(leaf.astype(jnp.float32).ravel())
