"""Metrics as accumulators, which sum over batches, devices and steps inside ``jit``.

Each metric function returns an accumulator. Positions where ``mask`` is False have no effect, even if they hold NaN.
"""

from lstm_jax.training.metrics.accumulators import (
    Bits,
    Confusion,
    Mean,
    PerMember,
    Perplexity,
    RootMean,
    add,
    mean,
    rank_value,
    values,
)
from lstm_jax.training.metrics.classification import accuracy, bits, confusion, perplexity
from lstm_jax.training.metrics.regression import (
    absolute_error,
    crps,
    percentage_error,
    pinball,
    root_squared_error,
    scaled_error,
    squared_error,
)

__all__ = [
    "Bits",
    "Confusion",
    "Mean",
    "PerMember",
    "Perplexity",
    "RootMean",
    "absolute_error",
    "accuracy",
    "add",
    "bits",
    "confusion",
    "crps",
    "mean",
    "percentage_error",
    "perplexity",
    "pinball",
    "rank_value",
    "root_squared_error",
    "scaled_error",
    "squared_error",
    "values",
]
