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
    distinct_points,
    fixed_points,
    principal_components,
    project_onto,
)
from lstm_jax.diagnostics.flow import (
    lyapunov_exponents,
    product_spectra,
    state_gradients,
    state_gradients_stack,
    state_jacobians,
)
from lstm_jax.diagnostics.monitors import monitor, monitor_readings, recorder
from lstm_jax.diagnostics.page import write_page
from lstm_jax.diagnostics.traces import UnitStats, trace, trace_stack, unit_stats
from lstm_jax.diagnostics.tracking import Tracking, track

__all__ = [
    "Attribution",
    "Components",
    "FixedPoints",
    "Tracking",
    "UnitStats",
    "completeness",
    "distinct_points",
    "fixed_points",
    "gradient_times_input",
    "integrated_gradients",
    "lyapunov_exponents",
    "monitor",
    "monitor_readings",
    "occlusion",
    "principal_components",
    "product_spectra",
    "project_onto",
    "recorder",
    "state_gradients",
    "state_gradients_stack",
    "state_jacobians",
    "trace",
    "trace_stack",
    "track",
    "unit_stats",
    "write_page",
]
