"""One step of training: gradient, optimizer, and a guard that keeps the last finite state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.failures import NEVER, Failure, first_failure, no_failure, watched
from lstm_jax.training.loss import LossFn, check_loss, check_returned, single, with_loss
from lstm_jax.training.loss_scaling import (
    LossScale,
    LossScaleOption,
    adjust,
    init_loss_scale,
    overflows,
    scale_loss,
    unscale,
    widen,
)
from lstm_jax.training.metrics import Mean


class TrainState(NamedTuple):
    """All arrays that a run needs to go on."""

    params: PyTree
    opt_state: PyTree
    carry: PyTree
    key: jax.Array
    """the key of the whole run; a step uses ``fold_in(key, step)``"""
    step: jax.Array
    """int32: updates so far"""
    failure: Failure
    loss_scale: LossScale | None = None
    """None where the loss is not scaled"""


class TrainStep:
    """A step, the state that it begins with, and the loss that validation evaluates.

    It is called as ``step(state, batch, **extra) -> (state, metrics)``, a pure function for ``jit``, ``scan`` and
    ``vmap``. ``make_train_step``, ``make_tbptt_step`` and ``Population.make_step`` return one, and ``fit`` takes one in
    the place of a loss: it is told from a loss by this type alone, since both are functions and a wrong guess would
    train on something else. It is no tuple because ``jax.jit`` takes none for a function.

    Args:
        step: ``step(state, batch, **extra) -> (state, metrics)``.
        init: ``init(params, key, carry) -> state``, a ``TrainState``.
        loss_fn: the loss whose metrics a validation computes.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> step = training.make_train_step(loss_fn, optax.sgd(0.25))
        >>> result = training.fit(
        ...     step, jnp.float32(2), [jnp.zeros(4)], steps=2, key=jax.random.key(0), progress_bar=False
        ... )
        >>> float(result.params)
        0.5
    """

    def __init__(
        self,
        step: Callable[..., tuple[TrainState, dict[str, Any]]],
        init: Callable[[PyTree, jax.Array, PyTree], TrainState],
        loss_fn: LossFn,
    ) -> None:
        self.step, self.init, self.loss_fn = step, init, loss_fn

    def __call__(self, state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
        """Takes the step.

        Args:
            state: before the step.
            batch: what the loss takes.
            extra: arguments of the optimizer's update; ``fit`` gives ``progress`` and ``validation``.
        Returns:
            (state, metrics): the state after the step, and accumulators by name.
        """
        return self.step(state, batch, **extra)


def init_state(
    params: PyTree,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    carry: PyTree = None,
    *,
    loss_scale: LossScaleOption = 1.0,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        params: any pytree of arrays.
        optimizer: whose state is begun; with a loss scale it sees half-precision parameters in float32.
        key: the key of the whole run.
        carry: what the first batch starts from; None for a loss that carries nothing.
        loss_scale: that of ``make_train_step``.
    Returns:
        state: at step 0.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> state = training.init_state({"w": jnp.ones(3)}, optax.sgd(0.1), jax.random.key(0))
        >>> int(state.step), state.params["w"].shape
        (0, (3,))
    """
    scale = init_loss_scale(loss_scale)
    opt_state = optimizer.init(params if scale is None else widen(params))
    return TrainState(params, opt_state, carry, key, jnp.asarray(0, jnp.int32), no_failure(), scale)


def make_train_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, *, loss_scale: LossScaleOption = 1.0
) -> TrainStep:
    """Makes ``step(state, batch, **extra) -> (state, metrics)``: one gradient and one update.

    A step after which loss or parameters are not finite leaves the state as it was and notes the place in
    ``state.failure``; later steps leave it as it is too.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))``, or one under ``stateless``.
        optimizer: of Optax; its update gets the ``extra`` arguments of the step that it takes.
        loss_scale: multiplies the loss before the gradient, which is divided by it in float32, so that small gradients
            do not vanish in float16; the optimizer then works in float32. ``"dynamic"`` begins at 2 ** 15, halves and
            skips the update where the gradient overflows, and doubles after 2000 steps without that. 1.0 scales
            nothing.
    Returns:
        step: a ``TrainStep``. Its metrics are those of the loss, with ``loss`` if they have none of that name,
        ``gradient_norm``, and for a dynamic scale ``loss_scale``.
    Raises:
        ValueError: the loss takes or returns something else; ``loss_scale`` is no scale; the state has none.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> step = training.make_train_step(loss_fn, optax.sgd(0.25))
        >>> state, metrics = jax.jit(step)(step.init(jnp.float32(2), jax.random.key(0), None), jnp.zeros(4))
        >>> float(state.params), float(metrics["loss"].value())
        (1.0, 4.0)
    """
    check_loss(loss_fn)
    init_loss_scale(loss_scale)
    optimizer = optax.with_extra_args_support(optimizer)

    def scaled_loss(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array, scale: LossScale | None) -> Any:
        returned = loss_fn(params, carry, batch, key)
        check_returned(returned, carry)
        loss, (carry, metrics) = returned
        return loss if scale is None else scale_loss(loss, scale), (loss, carry, metrics)

    def step(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
        scale = _current_scale(state.loss_scale, loss_scale)
        key = jax.random.fold_in(state.key, state.step)
        gradient, (loss, carry, metrics) = jax.grad(scaled_loss, has_aux=True)(
            state.params, state.carry, batch, key, scale
        )
        gradient, params = (
            (gradient, state.params) if scale is None else (unscale(gradient, scale), widen(state.params))
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, params, **extra)
        params = _cast_like(optax.apply_updates(params, updates), state.params)
        new = TrainState(params, opt_state, carry, state.key, state.step + 1, state.failure, state.loss_scale)
        metrics = with_loss(metrics, loss) | {"gradient_norm": single(optax.tree.norm(gradient))}
        if loss_scale == "dynamic":
            new, metrics = _skip_overflow(state, new, metrics, gradient)
        failure = first_failure(state.failure, state.step, watched(batch, carry, gradient, loss, new.params))
        new = new._replace(failure=failure)
        return _select(failure.step == NEVER, new, state._replace(failure=failure)), metrics

    return TrainStep(
        step, lambda params, key, carry: init_state(params, optimizer, key, carry, loss_scale=loss_scale), loss_fn
    )


def _skip_overflow(
    old: TrainState, new: TrainState, metrics: dict[str, Any], gradient: PyTree
) -> tuple[TrainState, dict[str, Any]]:
    """Where the gradient overflows, the update is left out; the scale is adjusted in any case."""
    assert old.loss_scale is not None
    skips = overflows(gradient, old.loss_scale)
    params, opt_state = _select(~skips, (new.params, new.opt_state), (old.params, old.opt_state))
    new = new._replace(params=params, opt_state=opt_state, loss_scale=adjust(old.loss_scale, skips))
    norm = jax.tree.map(lambda part: jnp.where(skips, 0, part), metrics["gradient_norm"])
    return new, metrics | {"gradient_norm": Mean(*norm), "loss_scale": single(old.loss_scale.scale)}


def _current_scale(scale: LossScale | None, option: LossScaleOption) -> LossScale | None:
    """The scale of this step; one that is not dynamic is a constant of the compiled program."""
    if option == 1:
        return None
    if scale is None:
        raise ValueError(
            f"state: has no loss scale, want the one of step.init(params, key, carry) or of "
            f"init_state(params, optimizer, key, carry, loss_scale={option!r})"
        )
    return scale if option == "dynamic" else scale._replace(scale=np.float32(option))


def _cast_like(params: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), params, like)


def _select(pred: jax.Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jax.lax.select(pred, new, old), on_true, on_false)
