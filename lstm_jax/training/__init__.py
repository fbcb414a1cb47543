"""Training of any loss over any pytree: the loop, batches, optimizers, metrics, checkpoints, devices, populations."""

from lstm_jax.training import metrics
from lstm_jax.training.batches import Batches, Shuffled
from lstm_jax.training.buckets import Bucketed, RaggedBatch
from lstm_jax.training.checkpoints import CheckpointError, Checkpoints, Saving
from lstm_jax.training.curves import plot_curve, to_csv
from lstm_jax.training.data_checks import check_finite, check_labels, check_lengths
from lstm_jax.training.devices import ROWS_FIRST, ROWS_SECOND, WHOLE, Devices, parse_mesh, shard_hidden
from lstm_jax.training.fit import FitResult, fit
from lstm_jax.training.hyperparameters import SearchResult, grid, plot_search, sample_hyperparameters, search
from lstm_jax.training.loading import prefetch
from lstm_jax.training.loss import LossFn, stateless
from lstm_jax.training.optimizers import (
    adam,
    averaged_params,
    matching_paths,
    named,
    nt_asgd,
    schedule_by_progress,
    warmup_cosine,
)
from lstm_jax.training.population import Population, PopulationState, StackedBatches, member_params, select_members
from lstm_jax.training.series import Scaler, fit_scaler, sliding_windows
from lstm_jax.training.step import TrainState, TrainStep, init_state, make_train_step
from lstm_jax.training.streams import Stream, TextWindow
from lstm_jax.training.tbptt import make_tbptt_step
from lstm_jax.training.validation import Validation, make_evaluate

__all__ = [
    "ROWS_FIRST",
    "ROWS_SECOND",
    "WHOLE",
    "Batches",
    "Bucketed",
    "CheckpointError",
    "Checkpoints",
    "Devices",
    "FitResult",
    "LossFn",
    "Population",
    "PopulationState",
    "RaggedBatch",
    "Saving",
    "Scaler",
    "SearchResult",
    "Shuffled",
    "StackedBatches",
    "Stream",
    "TextWindow",
    "TrainState",
    "TrainStep",
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
    "matching_paths",
    "member_params",
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
    "select_members",
    "shard_hidden",
    "sliding_windows",
    "stateless",
    "to_csv",
    "warmup_cosine",
]
