"""Diagnostics of recurrent networks: traces, gradients through time, attribution, fixed points, unit tracking."""

import importlib
from typing import TYPE_CHECKING, Any

from lstm_jax.diagnostics.attribution import (
    Attribution,
    completeness_error,
    gradient_times_input,
    integrated_gradients,
    occlusion,
)
from lstm_jax.diagnostics.dynamics import (
    FixedPoints,
    PrincipalComponents,
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
from lstm_jax.diagnostics.monitors import MonitorState, monitor, monitor_readings, recorder
from lstm_jax.diagnostics.page import write_page
from lstm_jax.diagnostics.traces import TracedState, UnitStats, trace, trace_stack, traced, unit_stats
from lstm_jax.diagnostics.tracking import TrackingResult, track

if TYPE_CHECKING:
    from lstm_jax.diagnostics import plots

__all__ = [
    "Attribution",
    "FixedPoints",
    "MonitorState",
    "PrincipalComponents",
    "TracedState",
    "TrackingResult",
    "UnitStats",
    "completeness_error",
    "distinct_points",
    "fixed_points",
    "gradient_times_input",
    "integrated_gradients",
    "lyapunov_exponents",
    "monitor",
    "monitor_readings",
    "occlusion",
    "plots",
    "principal_components",
    "product_spectra",
    "project_onto",
    "recorder",
    "state_gradients",
    "state_gradients_stack",
    "state_jacobians",
    "trace",
    "trace_stack",
    "traced",
    "track",
    "unit_stats",
    "write_page",
]


def __getattr__(name: str) -> Any:
    """Imports ``plots`` on first use, since matplotlib may not be installed."""
    if name == "plots":
        return importlib.import_module("lstm_jax.diagnostics.plots")
    raise AttributeError(f"module 'lstm_jax.diagnostics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
