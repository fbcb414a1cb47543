"""Flax linen: parameters of ``LSTMCell`` and ``OptimizedLSTMCell``, whose trees are the same, and of ``GRUCell``.

    ii, if, ig, io: {kernel [D, H]}    hi, hf, hg, ho: {kernel [H, H], bias [H]}

One kernel a gate; the bias stands on the recurrent side. The carry is ``(c, h)``: ``LSTMState(h, c)`` by name. A GRU
has ``ir, iz, in: {kernel, bias}``, ``hr, hz: {kernel}`` and ``hn: {kernel, bias}``: ours, with its two biases.
"""

from collections.abc import Mapping
from typing import Any

from lstm_jax._core.checks import check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.cells import GRUParams
from lstm_jax.interop.arrays import arrays_of, concatenate, split, without_scopes

LSTM_AXES = {f"{side}{gate}.kernel": f"{axis} H" for side, axis in ("hH", "iD") for gate in "ifgo"}
LSTM_AXES |= {f"h{gate}.bias": "H" for gate in "ifgo"}
GRU_AXES = {f"{side}{gate}.kernel": f"{axis} H" for side, axis in ("hH", "iD") for gate in "rzn"}
GRU_AXES |= {f"{name}.bias": "H" for name in ("ir", "iz", "in", "hn")}
UNBOX = "flax.linen.meta.unbox"


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """The cell's parameters, or ``{"params": {"cell": ...}}`` around them as ``nn.RNN`` returns it.

        params = lj.interop.linen.import_lstm(variables["params"]["encoder"])

    Raises:
        ValueError: naming a missing, unexpected or misshapen array.
    """
    cell = without_scopes(params, ("params", "cell"))
    arrays = arrays_of(cell, LSTM_AXES, UNBOX)
    return LSTMParams(
        concatenate([arrays[f"i{gate}.kernel"] for gate in "ifgo"]),
        concatenate([arrays[f"h{gate}.kernel"] for gate in "ifgo"]),
        concatenate([arrays[f"h{gate}.bias"] for gate in "ifgo"]),
    )


def export_lstm(params: LSTMParams) -> dict[str, dict[str, Any]]:
    """The inverse of ``import_lstm``: the cell's parameters; ``nn.RNN`` has ``{"cell": export_lstm(params)}``."""
    check_type("params", params, LSTMParams)
    kernels, recurrents, biases = (split(leaf, 4) for leaf in params)
    inputs = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip("ifgo", kernels, strict=True)}
    states = zip("ifgo", recurrents, biases, strict=True)
    return inputs | {f"h{gate}": {"kernel": kernel, "bias": bias} for gate, kernel, bias in states}


def import_gru(params: Mapping[str, Any]) -> GRUParams:
    """The parameters of ``GRUCell``, with the scopes of ``nn.RNN`` around them or not."""
    cell = without_scopes(params, ("params", "cell"))
    arrays = arrays_of(cell, GRU_AXES, UNBOX)
    return GRUParams(
        concatenate([arrays[f"i{gate}.kernel"] for gate in "rzn"]),
        concatenate([arrays[f"h{gate}.kernel"] for gate in "rzn"]),
        concatenate([arrays[f"i{gate}.bias"] for gate in "rzn"]),
        arrays["hn.bias"],
    )


def export_gru(params: GRUParams) -> dict[str, dict[str, Any]]:
    """The inverse of ``import_gru``."""
    check_type("params", params, GRUParams)
    kernels, recurrents, biases = (split(leaf, 3) for leaf in params[:3])
    inputs = zip("rzn", kernels, biases, strict=True)
    cell = {f"i{gate}": {"kernel": kernel, "bias": bias} for gate, kernel, bias in inputs}
    cell |= {f"h{gate}": {"kernel": kernel} for gate, kernel in zip("rzn", recurrents, strict=True)}
    return cell | {"hn": {**cell["hn"], "bias": params.candidate_bias}}
