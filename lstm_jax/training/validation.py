"""What is held out: its metrics, and the best parameters by them."""

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
    """What is held out, how often it is evaluated, and what is best; for ``fit(..., validation=Validation(...))``."""

    batches: Batches | Iterable[PyTree]
    """one epoch is read, from its start each time"""
    every: int
    """steps between validations"""
    metric: str = "loss"
    """the smallest is the best; with ``-`` in front the largest: ``"-accuracy"``, ``"-classes macro_f1"``"""
    patience: int | None = None
    """validations without a new best, at least 1, after which training stops; None means that it goes on"""
    carry: PyTree = None
    """what the first batch starts from"""
    params: Callable[[TrainState], PyTree] = lambda state: state.params
    """the parameters that are validated and kept, such as an average"""


def check_validation(validation: Validation) -> None:
    """Checks the options of a validation.

    Raises:
        ValueError: ``every`` or ``patience`` is below 1, or the batches can be read only once.
    """
    if validation.every < 1:
        raise ValueError(f"Validation.every: got {validation.every}, want at least 1")
    if validation.patience is not None and validation.patience < 1:
        raise ValueError(
            f"Validation.patience: got {validation.patience}, want at least 1, or None to go on whatever comes"
        )
    check_batches(validation.batches)
    if is_iterator(validation.batches):
        raise ValueError("Validation.batches: got an iterator, want batches that can be read again, such as a list")


def make_evaluate(
    loss_fn: LossFn, to_device: Callable[[PyTree], PyTree] = jax.device_put
) -> Callable[..., dict[str, Any]]:
    """Makes ``evaluate(params, batches, carry=None) -> accumulators``: the metrics of one epoch, without a key.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key)``, or one under ``stateless``.
        to_device: places a batch; for a loss over many devices ``devices.to_device``.
    Returns:
        evaluate: a function whose result has an accumulator for each metric, ``loss`` among them;
        ``metrics.values(accumulators)`` gives their numbers. It raises a ValueError if there is no batch.
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
        loss, (carry, metrics) = loss_fn(params, carry, batch, None)
        return carry, with_loss(metrics, loss)

    def evaluate(params: PyTree, batches: Batches | Iterable[PyTree], carry: PyTree = None) -> dict[str, Any]:
        sums = None
        for batch in one_epoch(batches):
            carry, metrics = evaluate_batch(params, carry, to_device(batch))
            sums = metrics if sums is None else add(sums, metrics)
        if sums is None:
            raise ValueError("batches: got none to evaluate, want at least one")
        return sums

    return evaluate


def validate(
    run: RunState, row: Row, validation: Validation | None, evaluate: Callable[..., dict[str, Any]]
) -> tuple[RunState, Row]:
    """Evaluates what is held out, and keeps the parameters if they are the best so far.

    Args:
        run: after a step.
        row: of that step.
        validation: what is held out.
        evaluate: from ``make_evaluate``.
    Returns:
        (run, row): the row with the metrics of the validation beside its own, called ``valid ...``.
    """
    assert validation is not None
    params = validation.params(run.state)
    accumulators = evaluate(params, validation.batches, validation.carry)
    valid_row = {f"valid {name}": value for name, value in values(accumulators).items()}
    row, rank = row | valid_row, rank_value(valid_row, validation.metric)
    run = run._replace(pending_validation=rank)
    if run.best is None or rank < rank_value(run.best, validation.metric):
        return run._replace(best=row, best_params=copy_arrays(params), stale_validations=0), row
    return run._replace(stale_validations=run.stale_validations + 1), row


def validated_params(validation: Validation | None) -> Callable[[TrainState], PyTree]:
    """Returns the function from a state to the parameters that are validated and kept."""
    return (lambda state: state.params) if validation is None else validation.params


def has_patience_left(run: RunState, validation: Validation | None) -> bool:
    """Returns whether training may go on after so many validations without a new best.

    Args:
        run: after a validation.
        validation: None means that there is none, and that training goes on.
    Returns:
        has_patience_left: whether a new best may still come in time.
    """
    patience = None if validation is None else validation.patience
    return patience is None or run.stale_validations < patience
