"""A training step: gradient, optimizer update, and protection of the state from non-finite values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.failures import NEVER, Failure, first_failure, name_checked_arrays, no_failure
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
    """The training state: all arrays needed to continue training."""

    params: PyTree
    opt_state: PyTree
    carry: PyTree
    """carry of the next batch; None for a stateless loss"""
    key: jax.Array
    """PRNG key of the run; each step uses ``fold_in(key, step)``"""
    step: jax.Array
    """int32 scalar: number of updates"""
    failure: Failure
    """first non-finite value, if there was one"""
    loss_scale: LossScale | None = None
    """None without loss scaling"""


class TrainStep:
    """A training step, with the function that initializes its state and the loss that validation evaluates.

    Call it as ``step(state, batch, **extra) -> (state, metrics)``. It is a pure function for ``jit``, ``scan`` and
    ``vmap``. ``make_train_step``, ``make_tbptt_step`` and ``Population.make_step`` return a ``TrainStep``. ``fit``
    accepts one in place of a loss; the type distinguishes the two, since both are callable. It is a class rather than a
    ``NamedTuple`` because ``jax.jit`` accepts no tuple as a function.

    Args:
        step: ``step(state, batch, **extra) -> (state, metrics)``.
        init: ``init(params, key, carry) -> state``, which returns the initial ``TrainState``.
        loss_fn: the loss whose metrics validation computes.
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
        """Takes one training step.

        Args:
            state: the current training state.
            batch: a batch in the form that the loss takes.
            extra: keyword arguments for the optimizer's update; ``fit`` passes ``progress`` and ``validation``.
        Returns:
            (state, metrics): the new training state, and a dict of accumulators.
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
    """Returns the initial training state.

    Args:
        params: initial parameters, any pytree of arrays.
        optimizer: the Optax optimizer; with loss scaling its state is float32 for half-precision parameters.
        key: PRNG key of the run.
        carry: carry of the first batch; None for a stateless loss.
        loss_scale: the ``loss_scale`` passed to ``make_train_step``.
    Returns:
        state: the training state at step 0.
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
    """Makes ``step(state, batch, **extra) -> (state, metrics)``: one gradient and one optimizer update.

    If the loss or a parameter becomes non-finite, the step keeps the previous state and records the failure in
    ``state.failure``. Every later step then returns the state unchanged.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))``, or a loss decorated with
            ``stateless``.
        optimizer: an Optax optimizer; its update receives the keyword arguments ``extra`` that it accepts.
        loss_scale: factor on the loss, which keeps small float16 gradients from underflowing. The gradient is divided
            by it in float32, in which the optimizer then works. ``"dynamic"`` starts at 2 ** 15, halves and skips the
            update if the gradient overflows, and doubles after 2000 steps without overflow. 1.0 disables scaling.
    Returns:
        step: a ``TrainStep``. Its metrics are those of the loss, ``loss`` unless the loss returns a metric of that
        name, ``gradient_norm``, and ``loss_scale`` if it is dynamic.
    Raises:
        ValueError: the loss has another signature or result, ``loss_scale`` is invalid, or the state has no loss scale.
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
        loss, (new_carry, metrics) = returned
        return loss if scale is None else scale_loss(loss, scale), (loss, new_carry, metrics)

    def step(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
        scale = _current_scale(state.loss_scale, loss_scale)
        key = jax.random.fold_in(state.key, state.step)
        scaled_gradient, (loss, carry, metrics) = jax.grad(scaled_loss, has_aux=True)(
            state.params, state.carry, batch, key, scale
        )
        gradient = scaled_gradient if scale is None else unscale(scaled_gradient, scale)
        wide_params = state.params if scale is None else widen(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, wide_params, **extra)
        params = _cast_like(optax.apply_updates(wide_params, updates), state.params)
        new_state = TrainState(params, opt_state, carry, state.key, state.step + 1, state.failure, state.loss_scale)
        metrics = with_loss(metrics, loss) | {"gradient_norm": single(optax.tree.norm(gradient))}
        if loss_scale == "dynamic":
            new_state, metrics = _skip_overflow(state, new_state, metrics, gradient)
        checked_arrays = name_checked_arrays(batch, carry, gradient, loss, new_state.params)
        failure = first_failure(state.failure, state.step, checked_arrays)
        new_state = new_state._replace(failure=failure)
        return _select(failure.step == NEVER, new_state, state._replace(failure=failure)), metrics

    def init(params: PyTree, key: jax.Array, carry: PyTree) -> TrainState:
        return init_state(params, optimizer, key, carry, loss_scale=loss_scale)

    return TrainStep(step, init, loss_fn)


def _skip_overflow(
    old_state: TrainState, new_state: TrainState, metrics: dict[str, Any], gradient: PyTree
) -> tuple[TrainState, dict[str, Any]]:
    """Adjusts the loss scale, and keeps the old parameters and optimizer state if the gradient overflows."""
    assert old_state.loss_scale is not None
    has_overflow = overflows(gradient, old_state.loss_scale)
    params, opt_state = _select(
        ~has_overflow, (new_state.params, new_state.opt_state), (old_state.params, old_state.opt_state)
    )
    next_scale = adjust(old_state.loss_scale, has_overflow)
    norm = jax.tree.map(lambda leaf: jnp.where(has_overflow, 0, leaf), metrics["gradient_norm"])
    metrics = metrics | {"gradient_norm": Mean(*norm), "loss_scale": single(old_state.loss_scale.scale)}
    return new_state._replace(params=params, opt_state=opt_state, loss_scale=next_scale), metrics


def _current_scale(scale: LossScale | None, option: LossScaleOption) -> LossScale | None:
    """Returns the loss scale of this step; a static scale is a constant of the compiled program."""
    if option == 1:
        return None
    if scale is None:
        raise ValueError(
            f"state: has no loss scale, want the one of step.init(params, key, carry) or of "
            f"init_state(params, optimizer, key, carry, loss_scale={option!r})"
        )
    return scale if option == "dynamic" else scale._replace(scale=np.float32(option))


def _cast_like(params: PyTree, reference: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, reference_leaf: leaf.astype(reference_leaf.dtype), params, reference)


def _select(pred: jax.Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jax.lax.select(pred, x, y), on_true, on_false)
