"""``torch.nn.LSTM`` with its own autograd; on a machine without a GPU its CPU build with oneDNN."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

import lstm_jax as lj
from benchmarks.programs import Problem
from benchmarks.workloads import Workload

REFUSES = {"resets": "torch.nn.LSTM takes no resets"}


def build(workload: Workload, mode: str, problem: Problem, dtype: str = "float32") -> tuple[Callable, Callable]:
    """A call that runs to its end and the map of its result to one comparable between libraries.

    Args:
        dtype: of weights and inputs; the loss is float32.
    """
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    put = lambda array: torch.tensor(np.asarray(array, np.float32), device=device).to(getattr(torch, dtype))  # noqa: E731
    layer = _layer(workload, problem, put)
    xs = put(problem.xs).requires_grad_(mode != "forward" and workload.kind != "final")
    target = put(problem.target).float()
    if workload.kind == "stepwise":
        return _stepwise(problem, put)
    if workload.kind in ("per-example", "hvp"):
        return _by_function(workload.kind, layer, xs.detach(), target, device)
    lengths = None if problem.lengths is None else torch.tensor(np.asarray(problem.lengths, np.int64))

    def outputs() -> Any:
        if lengths is None:
            return layer(xs)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, lengths, enforce_sorted=False)
        return torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], total_length=workload.T)[0]

    def forward() -> Any:
        with torch.inference_mode():
            return _wait(outputs(), device)

    def step() -> Any:
        layer.zero_grad()
        xs.grad = None
        ys = outputs()
        loss = ys[-1].sum() if workload.kind == "final" else torch.nn.functional.mse_loss(ys.float(), target)
        loss.backward()
        return _wait(loss.detach(), device)

    def compare(loss: Any) -> Any:
        # both biases have the gradient of their sum, which is that of our one bias
        gradient = {name: value.grad.float() * ("bias_hh" not in name) for name, value in layer.named_parameters()}
        shared = (loss.cpu().numpy(), _apart(lj.interop.torch.import_lstm(gradient)))
        return shared if xs.grad is None else (*shared, xs.grad.float().cpu().numpy())

    return (forward, lambda ys: ys.float().cpu().numpy()) if mode == "forward" else (step, compare)


def _layer(workload: Workload, problem: Problem, put: Callable) -> Any:
    """The module on our weights, the second bias zero; two layers and two directions are options of it."""
    options = {"num_layers": 2} if workload.kind == "two layers" else {}
    layer = torch.nn.LSTM(workload.D, workload.H, bidirectional=workload.kind == "bidirectional", **options)
    layer = layer.to(put(0.0))
    params = (lj.Bidirectional(*problem.params),) if workload.kind == "bidirectional" else problem.params
    layer.load_state_dict({name: put(value) for name, value in lj.interop.torch.export_lstm(params).items()})
    return layer


def _apart(layers: tuple) -> tuple:
    """Two directions as the problem lists them."""
    return tuple(one for both in layers for one in (both if isinstance(both, lj.Bidirectional) else (both,)))


def _by_function(kind: str, layer: Any, xs: Any, target: Any, device: str) -> tuple[Callable, Callable]:
    """Gradients of each example, or the Hessian's product with ones, through ``torch.func`` and double backward."""
    parameters = {name: value.detach() for name, value in layer.named_parameters()}
    names = list(parameters)
    ones = {name: float(not name.startswith("bias_hh")) for name in names}  # our one bias is the input's

    def loss(parameters: dict, xs: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(torch.func.functional_call(layer, parameters, (xs,))[0], target)

    def per_example() -> Any:
        with warnings.catch_warnings():  # it says that it loops over the examples, having no batching rule
            warnings.simplefilter("ignore", UserWarning)
            return _wait(torch.func.vmap(torch.func.grad(loss), (None, 1, 1))(parameters, xs, target), device)

    def product() -> Any:
        leaves = {name: value.requires_grad_() for name, value in parameters.items()}
        gradient = torch.autograd.grad(loss(leaves, xs, target), list(leaves.values()), create_graph=True)
        along = torch.stack([part.sum() * ones[name] for name, part in zip(names, gradient, strict=True)]).sum()
        return _wait(dict(zip(names, torch.autograd.grad(along, list(leaves.values())), strict=True)), device)

    def compare(result: dict) -> Any:
        kernel, recurrent, bias, _ = (result[name].detach().cpu().numpy() for name in names)
        return (lj.LSTMParams(np.swapaxes(kernel, -1, -2), np.swapaxes(recurrent, -1, -2), bias),)

    return (per_example if kind == "per-example" else product), compare


def _stepwise(problem: Problem, put: Callable) -> tuple[Callable, Callable]:
    (kernel, recurrent, bias), x = problem.params[0], put(problem.xs[0])
    cell = torch.nn.LSTMCell(kernel.shape[0], recurrent.shape[0]).to(x.device)
    with torch.no_grad():
        values = (kernel.T, recurrent.T, bias, np.zeros_like(bias))
        for parameter, value in zip(cell.parameters(), values, strict=True):
            parameter.copy_(put(value))
    zeros = torch.zeros(x.shape[0], recurrent.shape[0], device=x.device)

    def step() -> Any:
        with torch.inference_mode():
            return _wait(cell(x, (zeros, zeros)), x.device.type)

    return step, lambda state: (lj.LSTMState(*(part.cpu().numpy() for part in state)), state[0].cpu().numpy())


def _wait(result: Any, device: str) -> Any:
    if device == "cuda":
        torch.cuda.synchronize()
    return result
