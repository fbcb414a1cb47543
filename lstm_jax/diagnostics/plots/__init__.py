"""Plots of the results of ``diagnostics``, with color-blind-safe palettes; each function writes one image file.

Needs matplotlib: ``pip install 'lstm_jax[diagnostics]'``.
"""

from lstm_jax.diagnostics.plots.curves import (
    plot_fixed_points,
    plot_norms,
    plot_readings,
    plot_spectra,
    plot_unit_stats,
)
from lstm_jax.diagnostics.plots.heatmaps import plot_attribution, plot_heatmap, plot_text

__all__ = [
    "plot_attribution",
    "plot_fixed_points",
    "plot_heatmap",
    "plot_norms",
    "plot_readings",
    "plot_spectra",
    "plot_text",
    "plot_unit_stats",
]
