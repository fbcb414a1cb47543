"""Training for any loss over any pytree: steps, the loop, data, metrics, checkpoints, devices, populations."""

from lstm_jax.training import metrics
from lstm_jax.training.checkpoints import CheckpointError, Checkpoints
from lstm_jax.training.data import (
    Bucketed,
    Ragged,
    Scale,
    Shuffled,
    Stream,
    Text,
    check_finite,
    check_labels,
    prefetch,
    scale_of,
    sliding,
)
from lstm_jax.training.fit import Fitted, fit
from lstm_jax.training.optimizers import averaged, by_progress, half_cosine, named, nt_asgd
from lstm_jax.training.records import draw_curve, to_csv
from lstm_jax.training.run import Saving, Validation, make_evaluate
from lstm_jax.training.step import TrainState, init_state, make_train_step, stateless

__all__ = [
    "Bucketed",
    "CheckpointError",
    "Checkpoints",
    "Fitted",
    "Ragged",
    "Saving",
    "Scale",
    "Shuffled",
    "Stream",
    "Text",
    "TrainState",
    "Validation",
    "averaged",
    "by_progress",
    "check_finite",
    "check_labels",
    "draw_curve",
    "fit",
    "half_cosine",
    "init_state",
    "make_evaluate",
    "make_train_step",
    "metrics",
    "named",
    "nt_asgd",
    "prefetch",
    "scale_of",
    "sliding",
    "stateless",
    "to_csv",
]
