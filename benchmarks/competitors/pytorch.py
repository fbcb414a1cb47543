"""``torch.nn.LSTM`` with PyTorch's autograd, on the GPU or, by oneDNN, on the CPU."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

import lstm_jax as lj
from benchmarks.programs import Problem
from benchmarks.workloads import Workload

UNSUPPORTED = {"resets": "torch.nn.LSTM takes no resets"}
"""Kind of workload to the reason why PyTorch cannot run it."""


def build(workload: Workload, mode: str, problem: Problem, dtype: str = "float32") -> tuple[Callable, Callable]:
    """Builds the program of a workload in PyTorch.

    Args:
        workload: the workload to build.
        mode: ``"forward"`` or ``"value_and_grad"``.
        problem: its weights and data.
        dtype: dtype of weights and inputs; the loss is float32.

    Returns:
        (call, to_comparable): ``call()`` runs the program and waits for its result, and ``to_comparable(result)``
        converts the result to a form that is equal for all libraries.
    """
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"

    def to_tensor(array: Any) -> Any:
        return torch.tensor(np.asarray(array, np.float32), device=device).to(getattr(torch, dtype))

    layer = _make_layer(workload, problem, to_tensor)
    xs = to_tensor(problem.xs).requires_grad_(mode != "forward" and workload.kind != "final")
    target = to_tensor(problem.target).float()
    if workload.kind == "stepwise":
        return _stepwise(problem, to_tensor)
    if workload.kind in ("per-example", "hvp"):
        return _function_transform(workload.kind, layer, xs.detach(), target, device)
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

    def to_comparable(loss: Any) -> Any:
        # both biases have the same gradient and import_lstm adds them, so one of the two is set to 0
        gradient = {name: value.grad.float() * ("bias_hh" not in name) for name, value in layer.named_parameters()}
        value_and_weight_gradient = (loss.cpu().numpy(), _separate_directions(lj.interop.torch.import_lstm(gradient)))
        if xs.grad is None:
            return value_and_weight_gradient
        return (*value_and_weight_gradient, xs.grad.float().cpu().numpy())

    return (forward, lambda ys: ys.float().cpu().numpy()) if mode == "forward" else (step, to_comparable)


def _make_layer(workload: Workload, problem: Problem, to_tensor: Callable) -> Any:
    """Makes the module with the weights of a problem, for one or two layers or directions; its second bias is 0."""
    options = {"num_layers": 2} if workload.kind == "two layers" else {}
    layer = torch.nn.LSTM(workload.D, workload.H, bidirectional=workload.kind == "bidirectional", **options)
    layer = layer.to(to_tensor(0.0))
    params = (lj.Bidirectional(*problem.params),) if workload.kind == "bidirectional" else problem.params
    layer.load_state_dict({name: to_tensor(value) for name, value in lj.interop.torch.export_lstm(params).items()})
    return layer


def _separate_directions(layers: tuple) -> tuple:
    """Replaces each ``Bidirectional`` by its two directions, as in ``Problem.params``."""
    return tuple(params for layer in layers for params in (layer if isinstance(layer, lj.Bidirectional) else (layer,)))


def _function_transform(kind: str, layer: Any, xs: Any, target: Any, device: str) -> tuple[Callable, Callable]:
    """Builds per-example gradients by ``torch.func``, or the Hessian-vector product with ones by double backward."""
    parameters = {name: value.detach() for name, value in layer.named_parameters()}
    names = list(parameters)
    ones = {name: float(not name.startswith("bias_hh")) for name in names}  # LSTMParams.bias is the input bias

    def loss(parameters: dict, xs: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(torch.func.functional_call(layer, parameters, (xs,))[0], target)

    def per_example() -> Any:
        with warnings.catch_warnings():  # torch warns that it loops over examples, having no batching rule
            warnings.simplefilter("ignore", UserWarning)
            return _wait(torch.func.vmap(torch.func.grad(loss), (None, 1, 1))(parameters, xs, target), device)

    def hessian_vector_product() -> Any:
        leaves = {name: value.requires_grad_() for name, value in parameters.items()}
        gradient = torch.autograd.grad(loss(leaves, xs, target), list(leaves.values()), create_graph=True)
        derivative = torch.stack([part.sum() * ones[name] for name, part in zip(names, gradient, strict=True)]).sum()
        return _wait(dict(zip(names, torch.autograd.grad(derivative, list(leaves.values())), strict=True)), device)

    def to_comparable(result: dict) -> Any:
        kernel, recurrent, bias, _ = (result[name].detach().cpu().numpy() for name in names)
        return (lj.LSTMParams(np.swapaxes(kernel, -1, -2), np.swapaxes(recurrent, -1, -2), bias),)

    return (per_example if kind == "per-example" else hessian_vector_product), to_comparable


def _stepwise(problem: Problem, to_tensor: Callable) -> tuple[Callable, Callable]:
    """Builds one step of ``torch.nn.LSTMCell`` from the zero state."""
    (kernel, recurrent, bias), x = problem.params[0], to_tensor(problem.xs[0])
    cell = torch.nn.LSTMCell(kernel.shape[0], recurrent.shape[0]).to(x.device)
    with torch.no_grad():
        values = (kernel.T, recurrent.T, bias, np.zeros_like(bias))
        for parameter, value in zip(cell.parameters(), values, strict=True):
            parameter.copy_(to_tensor(value))
    zeros = torch.zeros(x.shape[0], recurrent.shape[0], device=x.device)

    def step() -> Any:
        with torch.inference_mode():
            return _wait(cell(x, (zeros, zeros)), x.device.type)

    return step, lambda state: (lj.LSTMState(*(part.cpu().numpy() for part in state)), state[0].cpu().numpy())


def _wait(result: Any, device: str) -> Any:
    """Waits for the GPU, and returns the result."""
    if device == "cuda":
        torch.cuda.synchronize()
    return result
