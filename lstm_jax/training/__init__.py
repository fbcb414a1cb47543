"""Training for any loss over any pytree: steps, the loop, data, metrics, checkpoints, devices, populations."""

from lstm_jax.training import metrics
from lstm_jax.training.checkpoints import CheckpointError, Checkpoints
from lstm_jax.training.data import (
    Bucketed,
    RaggedBatch,
    Scaler,
    Shuffled,
    Stream,
    TextWindow,
    check_finite,
    check_labels,
    check_lengths,
    fit_scaler,
    prefetch,
    sliding_windows,
)
from lstm_jax.training.devices import ROWS_FIRST, ROWS_SECOND, WHOLE, Devices, parse_mesh, shard_hidden
from lstm_jax.training.fit import FitResult, fit
from lstm_jax.training.hyperparameters import SearchResult, grid, plot_search, sample_hyperparameters, search
from lstm_jax.training.optimizers import adam, averaged_params, named, nt_asgd, schedule_by_progress, warmup_cosine
from lstm_jax.training.population import Population, StackedBatches
from lstm_jax.training.records import plot_curve, to_csv
from lstm_jax.training.run import Saving, Validation, make_evaluate
from lstm_jax.training.step import TrainState, init_state, make_train_step, stateless
from lstm_jax.training.tbptt import make_tbptt_step

__all__ = [
    "ROWS_FIRST",
    "ROWS_SECOND",
    "WHOLE",
    "Bucketed",
    "CheckpointError",
    "Checkpoints",
    "Devices",
    "FitResult",
    "Population",
    "RaggedBatch",
    "Saving",
    "Scaler",
    "SearchResult",
    "Shuffled",
    "StackedBatches",
    "Stream",
    "TextWindow",
    "TrainState",
    "Validation",
    "adam",
    "averaged_params",
    "check_finite",
    "check_labels",
    "check_lengths",
    "fit",
    "fit_scaler",
    "grid",
    "init_state",
    "make_evaluate",
    "make_tbptt_step",
    "make_train_step",
    "metrics",
    "named",
    "nt_asgd",
    "parse_mesh",
    "plot_curve",
    "plot_search",
    "prefetch",
    "sample_hyperparameters",
    "schedule_by_progress",
    "search",
    "shard_hidden",
    "sliding_windows",
    "stateless",
    "to_csv",
    "warmup_cosine",
]
