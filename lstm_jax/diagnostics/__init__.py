"""What an LSTM remembers, and why it trains or does not: arrays in, arrays out; ``pictures`` draws them."""

from lstm_jax.diagnostics.attribution import (
    Attribution,
    completeness,
    gradient_times_input,
    integrated_gradients,
    occlusion,
)
from lstm_jax.diagnostics.dynamics import (
    Components,
    FixedPoints,
    distinct,
    fixed_points,
    onto,
    principal_components,
)
from lstm_jax.diagnostics.flow import (
    lyapunov_exponents,
    product_spectra,
    state_gradients,
    state_gradients_stack,
    state_jacobians,
)
from lstm_jax.diagnostics.monitors import monitor, readings, recorder
from lstm_jax.diagnostics.page import write_page
from lstm_jax.diagnostics.traces import Units, trace, trace_stack, units
from lstm_jax.diagnostics.tracking import Tracking, track

__all__ = [
    "Attribution",
    "Components",
    "FixedPoints",
    "Tracking",
    "Units",
    "completeness",
    "distinct",
    "fixed_points",
    "gradient_times_input",
    "integrated_gradients",
    "lyapunov_exponents",
    "monitor",
    "occlusion",
    "onto",
    "principal_components",
    "product_spectra",
    "readings",
    "recorder",
    "state_gradients",
    "state_gradients_stack",
    "state_jacobians",
    "trace",
    "trace_stack",
    "track",
    "units",
    "write_page",
]
