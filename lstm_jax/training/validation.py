"""Evaluation on held-out data, with best-parameter tracking and early stopping."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches
from lstm_jax.training.loading import check_batches, is_iterator, one_epoch
from lstm_jax.training.loss import LossFn, with_loss
from lstm_jax.training.metrics import add, rank_value, values
from lstm_jax.training.records import Row
from lstm_jax.training.run import RunState, copy_arrays
from lstm_jax.training.step import TrainState


class Validation(NamedTuple):
    """Configures validation in ``fit``: the data, its interval, and the metric to select on."""

    batches: Batches | Iterable[PyTree]
    """held-out batches; each validation reads one epoch from its start"""
    every: int
    """steps between validations"""
    metric: str = "loss"
    """metric to minimize; the prefix ``-`` maximizes it instead: ``"-accuracy"``, ``"-classes macro_f1"``"""
    patience: int | None = None
    """number of consecutive validations without improvement, at least 1, after which training stops; None disables
    early stopping"""
    carry: PyTree = None
    """carry of the first held-out batch; None for a stateless loss"""
    params: Callable[[TrainState], PyTree] = lambda state: state.params
    """function from the training state to the parameters to evaluate and keep, such as an average"""


def check_validation(validation: Validation) -> None:
    """Checks the fields of a ``Validation``.

    Raises:
        ValueError: ``every`` or ``patience`` is below 1, or ``batches`` is an iterator, which can be read only once.
    """
    if validation.every < 1:
        raise ValueError(f"Validation.every: got {validation.every}, want at least 1")
    if validation.patience is not None and validation.patience < 1:
        raise ValueError(
            f"Validation.patience: got {validation.patience}, want at least 1, or None for no early stopping"
        )
    check_batches(validation.batches)
    if is_iterator(validation.batches):
        raise ValueError("Validation.batches: got an iterator, want batches that can be read again, such as a list")


def make_evaluate(
    loss_fn: LossFn, to_device: Callable[[PyTree], PyTree] = jax.device_put
) -> Callable[..., dict[str, Any]]:
    """Makes ``evaluate(params, batches, carry=None) -> accumulators``, which computes the metrics of one epoch.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key)``, or a loss decorated with ``stateless``; it gets ``key=None``.
        to_device: function that places a batch on the device; ``devices.to_device`` for several devices.
    Returns:
        evaluate: compiled function that returns a dict with one accumulator per metric, including ``loss``.
        ``metrics.values(accumulators)`` converts them to floats. It raises a ValueError if ``batches`` is empty.
    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from lstm_jax import training
        >>> from lstm_jax.training import metrics
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> batches = training.Shuffled(np.arange(4.0), 2, shuffle=False)
        >>> metrics.values(training.make_evaluate(loss_fn)(jnp.array(0.0), batches))
        {'loss': 3.5}
    """

    @jax.jit
    def evaluate_batch(params: PyTree, carry: PyTree, batch: PyTree) -> tuple[PyTree, dict[str, Any]]:
        loss, (new_carry, metrics) = loss_fn(params, carry, batch, None)
        return new_carry, with_loss(metrics, loss)

    def evaluate(params: PyTree, batches: Batches | Iterable[PyTree], carry: PyTree = None) -> dict[str, Any]:
        sums = None
        for batch in one_epoch(batches):
            carry, metrics = evaluate_batch(params, carry, to_device(batch))
            sums = metrics if sums is None else add(sums, metrics)
        if sums is None:
            raise ValueError("batches: got none, want at least one to evaluate")
        return sums

    return evaluate


def validate(
    run: RunState, row: Row, validation: Validation, evaluate: Callable[..., dict[str, Any]]
) -> tuple[RunState, Row]:
    """Evaluates the parameters on held-out data and keeps a copy of them if they are the best so far.

    Args:
        run: the run state after the current step.
        row: the training metrics of the current step.
        validation: the held-out data and the metric to select on.
        evaluate: ``evaluate(params, batches, carry)`` from ``make_evaluate``.
    Returns:
        (run, row): the run with updated ``best``, and the row with the validation metrics under ``valid <name>``.
    """
    params = validation.params(run.state)
    accumulators = evaluate(params, validation.batches, validation.carry)
    valid_metrics = {f"valid {name}": value for name, value in values(accumulators).items()}
    row = row | valid_metrics
    rank = rank_value(valid_metrics, validation.metric)
    run = run._replace(pending_validation=rank)
    if run.best is None or rank < rank_value(run.best, validation.metric):
        return run._replace(best=row, best_params=copy_arrays(params), stale_validations=0), row
    return run._replace(stale_validations=run.stale_validations + 1), row


def params_selector(validation: Validation | None) -> Callable[[TrainState], PyTree]:
    """Returns the function that selects the parameters to validate from a ``TrainState``."""
    return (lambda state: state.params) if validation is None else validation.params


def has_patience_left(run: RunState, validation: Validation | None) -> bool:
    """Returns whether early stopping still allows training.

    Args:
        run: the run state after the current step.
        validation: the validation whose ``patience`` applies; None means no early stopping.
    Returns:
        has_patience_left: False once ``patience`` consecutive validations brought no improvement.
    """
    patience = None if validation is None else validation.patience
    return patience is None or run.stale_validations < patience
