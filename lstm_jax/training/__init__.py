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
    check_lengths,
    prefetch,
    scale_of,
    sliding,
)
from lstm_jax.training.devices import ROWS_FIRST, ROWS_SECOND, WHOLE, Devices, cut_hidden, parse_mesh
from lstm_jax.training.fit import Fitted, fit
from lstm_jax.training.hyperparameters import Searched, draw_search, draws, grid, search
from lstm_jax.training.optimizers import adam, averaged, by_progress, half_cosine, named, nt_asgd
from lstm_jax.training.population import Population, Together
from lstm_jax.training.records import draw_curve, to_csv
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
    "Fitted",
    "Population",
    "Ragged",
    "Saving",
    "Scale",
    "Searched",
    "Shuffled",
    "Stream",
    "Text",
    "Together",
    "TrainState",
    "Validation",
    "adam",
    "averaged",
    "by_progress",
    "check_finite",
    "check_labels",
    "check_lengths",
    "cut_hidden",
    "draw_curve",
    "draw_search",
    "draws",
    "fit",
    "grid",
    "half_cosine",
    "init_state",
    "make_evaluate",
    "make_tbptt_step",
    "make_train_step",
    "metrics",
    "named",
    "nt_asgd",
    "parse_mesh",
    "prefetch",
    "scale_of",
    "search",
    "sliding",
    "stateless",
    "to_csv",
]
