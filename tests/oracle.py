"""The LSTM in NumPy float64, from the equations, one row and one step at a time, with its gradient.

It shares no code with the library. Each row of the batch becomes a list of the steps it takes, in reading order,
each marked with whether a boundary lies before it; the rest is the textbook recurrence and, gate by gate, the
textbook back-propagation through time, with the gates' own derivatives that one tutorial omits.
"""

from typing import NamedTuple

import numpy as np


class Weights(NamedTuple):
    """``W [D, 4H]``, ``R [H, 4H]``, ``b [4H]``; blocks i, f, g, o."""

    W: np.ndarray
    R: np.ndarray
    b: np.ndarray


class Problem(NamedTuple):
    """A batch of sequences; shapes ``[T, B, D]``, ``[B, H]``, ``[T, B]``."""

    weights: Weights
    x: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    taken: np.ndarray
    resets: np.ndarray
    h_reset: np.ndarray
    c_reset: np.ndarray
    reverse: bool = False


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def reading_list(taken, resets, reverse):
    """(time, fresh) of each step taken by one row, in reading order; fresh: it starts from the reset state."""
    times = [t for t in range(len(taken)) if taken[t]]
    visits = []
    if reverse:
        for position, t in enumerate(reversed(times)):
            later = times[len(times) - position] if position else None
            visits.append((t, later is not None and any(resets[t + 1 : later + 1])))
    else:
        for position, t in enumerate(times):
            start = times[position - 1] + 1 if position else 0
            visits.append((t, any(resets[start : t + 1])))
    return visits


def gates(weights, x, h):
    size = len(h)
    a = x @ weights.W + h @ weights.R + weights.b
    i, f, g, o = (a[k * size : (k + 1) * size] for k in range(4))
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def run(problem):
    """Final h and c ``[B, H]`` and outputs ``[T, B, H]``."""
    h_final, c_final = problem.h0.copy(), problem.c0.copy()
    ys = np.zeros((*problem.x.shape[:2], problem.h0.shape[-1]))
    for row in range(problem.x.shape[1]):
        h, c = problem.h0[row], problem.c0[row]
        for t, fresh in reading_list(problem.taken[:, row], problem.resets[:, row], problem.reverse):
            if fresh:
                h, c = problem.h_reset[row], problem.c_reset[row]
            i, f, g, o = gates(problem.weights, problem.x[t, row], h)
            c = f * c + i * g
            h = o * np.tanh(c)
            ys[t, row] = h
        h_final[row], c_final[row] = h, c
    return h_final, c_final, ys


def gradient(problem, dh_final, dc_final, dys):
    """Gradient of ``sum(dh_final * h) + sum(dc_final * c) + sum(dys * ys)`` as a Problem of gradients."""
    weights = problem.weights
    out = problem._replace(
        weights=Weights(*(np.zeros_like(w) for w in weights)),
        **{name: np.zeros_like(getattr(problem, name)) for name in ("x", "h0", "c0", "h_reset", "c_reset")},
    )
    for row in range(problem.x.shape[1]):
        tape = []
        h, c = problem.h0[row], problem.c0[row]
        for t, fresh in reading_list(problem.taken[:, row], problem.resets[:, row], problem.reverse):
            if fresh:
                h, c = problem.h_reset[row], problem.c_reset[row]
            i, f, g, o = gates(weights, problem.x[t, row], h)
            tape.append((t, fresh, h, c, i, f, g, o))
            c = f * c + i * g
            h = o * np.tanh(c)
        dh, dc = dh_final[row].copy(), dc_final[row].copy()
        for t, fresh, h, c, i, f, g, o in reversed(tape):
            dh = dh + dys[t, row]
            tanh_c = np.tanh(f * c + i * g)
            do = dh * tanh_c
            dc = dc + dh * o * (1 - tanh_c**2)
            df, di, dg = dc * c, dc * g, dc * i
            da = np.concatenate([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)])
            out.weights.W[:] += np.outer(problem.x[t, row], da)
            out.weights.R[:] += np.outer(h, da)
            out.weights.b[:] += da
            out.x[t, row] = weights.W @ da
            dh, dc = weights.R @ da, dc * f
            if fresh:
                out.h_reset[row] += dh
                out.c_reset[row] += dc
                dh, dc = np.zeros_like(dh), np.zeros_like(dc)
        out.h0[row], out.c0[row] = dh, dc
    return out
