"""One step of each cell in NumPy float64, from the papers; shares no code with the library.

``STEPS[name](p, state, x) -> (state, y)`` for one row: ``p`` maps the names of the parameters to arrays, the state is a
tuple in the order of the cell's own.
"""

import numpy as np
from oracle import reading_list, sigmoid


def blocks(p, x, h, names):
    """Pre-activations by letter."""
    a = x @ p["input_kernel"] + h @ p["recurrent_kernel"] + p["bias"]
    return dict(zip(names, np.split(a, len(names)), strict=True))


def simple(p, state, x):
    h = np.tanh(x @ p["input_kernel"] + state[0] @ p["recurrent_kernel"] + p["bias"])
    return (h,), h


def gru(p, state, x):
    (h,) = state
    w_r, w_z, w_n = np.split(x @ p["input_kernel"] + p["bias"], 3)
    u_r, u_z, u_n = np.split(h @ p["recurrent_kernel"], 3)
    r, z = sigmoid(w_r + u_r), sigmoid(w_z + u_z)
    n = np.tanh(w_n + r * (u_n + p["candidate_bias"]))
    h = (1 - z) * n + z * h
    return (h,), h


def gru_original(p, state, x):
    (h,) = state
    w_r, w_z, w_n = np.split(x @ p["input_kernel"] + p["bias"], 3)
    u_r, u_z, u_n = np.split(p["recurrent_kernel"], 3, axis=1)
    r, z = sigmoid(w_r + h @ u_r), sigmoid(w_z + h @ u_z)
    n = np.tanh(w_n + (r * h) @ u_n)
    h = (1 - z) * n + z * h
    return (h,), h


def lstm(p, state, x):
    a = blocks(p, x, state[0], "ifgo")
    c = sigmoid(a["f"]) * state[1] + sigmoid(a["i"]) * np.tanh(a["g"])
    h = sigmoid(a["o"]) * np.tanh(c)
    return (h, c), h


def coupled(p, state, x):
    a = blocks(p, x, state[0], "fgo")
    f = sigmoid(a["f"])
    c = f * state[1] + (1 - f) * np.tanh(a["g"])
    h = sigmoid(a["o"]) * np.tanh(c)
    return (h, c), h


def no_input_gate(p, state, x):
    a = blocks(p, x, state[0], "fgo")
    c = sigmoid(a["f"]) * state[1] + np.tanh(a["g"])
    h = sigmoid(a["o"]) * np.tanh(c)
    return (h, c), h


def no_forget_gate(p, state, x):
    a = blocks(p, x, state[0], "igo")
    c = state[1] + sigmoid(a["i"]) * np.tanh(a["g"])
    h = sigmoid(a["o"]) * np.tanh(c)
    return (h, c), h


def no_output_gate(p, state, x):
    a = blocks(p, x, state[0], "ifg")
    c = sigmoid(a["f"]) * state[1] + sigmoid(a["i"]) * np.tanh(a["g"])
    h = np.tanh(c)
    return (h, c), h


def capped(p, state, x):
    a = blocks(p, x, state[0], "ifgo")
    f = sigmoid(a["f"])
    c = f * state[1] + np.minimum(sigmoid(a["i"]), 1 - f) * np.tanh(a["g"])
    h = sigmoid(a["o"]) * np.tanh(c)
    return (h, c), h


def janet(p, state, x):
    s, g = np.split(x @ p["input_kernel"] + state[0] @ p["recurrent_kernel"] + p["bias"], 2)
    c = sigmoid(s) * state[1] + (1 - sigmoid(s - 1)) * np.tanh(g)
    return (c, c), c


def clipped(p, state, x):
    a = blocks(p, x, state[0], "ifgo")
    c = np.clip(sigmoid(a["f"]) * state[1] + sigmoid(a["i"]) * np.tanh(a["g"]), -3, 3)
    h = sigmoid(a["o"]) * np.tanh(c)
    return (h, c), h


def relu(p, state, x):
    a = blocks(p, x, state[0], "ifgo")
    c = sigmoid(a["f"]) * state[1] + sigmoid(a["i"]) * np.maximum(a["g"], 0)
    h = sigmoid(a["o"]) * np.maximum(c, 0)
    return (h, c), h


def peephole(p, state, x):
    h, c = state
    a = blocks(p, x, h, "ifgo")
    p_i, p_f, p_o = np.split(p["peepholes"], 3)
    i, f = sigmoid(a["i"] + p_i * c), sigmoid(a["f"] + p_f * c)
    c = f * c + i * np.tanh(a["g"])
    h = sigmoid(a["o"] + p_o * c) * np.tanh(c)
    return (h, c), h


def projected(p, state, x):
    (h, c), _ = lstm(p, state, x)
    r = h @ p["projection"]
    return (r, c), r


def norm(v):
    return (v - v.mean()) / np.sqrt(v.var() + 1e-5)


def layer_norm(p, state, x):
    h, c = state
    a = p["input_scale"] * norm(x @ p["input_kernel"]) + p["recurrent_scale"] * norm(h @ p["recurrent_kernel"])
    i, f, g, o = np.split(a + p["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(p["memory_scale"] * norm(c) + p["memory_bias"])
    return (h, c), h


def gate_norm(p, state, x):
    h, c = state
    a = x @ p["input_kernel"] + h @ p["recurrent_kernel"]
    a = np.concatenate([norm(block) for block in np.split(a, 4)]) * p["scale"] + p["bias"]
    i, f, g, o = np.split(a, 4)
    c = p["memory_scale"] * norm(sigmoid(f) * c + sigmoid(i) * np.tanh(g)) + p["memory_bias"]
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


def batch_norm(p, state, x):
    h, c, place = state
    at = min(int(place[0]), len(p["memory_mean"]) - 1)

    def standard(v, name):
        return (v - p[f"{name}_mean"][at]) / np.sqrt(p[f"{name}_variance"][at] + 1e-5)

    a = p["input_scale"] * standard(x @ p["input_kernel"], "input")
    a += p["recurrent_scale"] * standard(h @ p["recurrent_kernel"], "recurrent")
    i, f, g, o = np.split(a + p["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(p["memory_scale"] * standard(c, "memory") + p["memory_bias"])
    return (h, c, place + 1), h


def multiplicative(p, state, x):
    m = (x @ p["input_factor"]) * (state[0] @ p["recurrent_factor"])
    return lstm(p, (m, state[1]), x)


def mogrifier(p, state, x):
    h, c = state
    odd, even = list(p["input_gates"]), list(p["state_gates"])
    for n in range(1, len(odd) + len(even) + 1):
        if n % 2:
            x = 2 * sigmoid(h @ odd.pop(0)) * x
        else:
            h = 2 * sigmoid(x @ even.pop(0)) * h
    return lstm(p, (h, c), x)


def slstm(p, state, x):
    """Without a stabilizer: h is what the stabilized form gives, c and n are its c and n times exp(m)."""
    h, c, n, m = state
    a = blocks(p, x, h, "ifgo")
    i, f = np.exp(a["i"]), sigmoid(a["f"])
    c, n = f * c * np.exp(m) + i * np.tanh(a["g"]), f * n * np.exp(m) + i
    h = sigmoid(a["o"]) * c / n
    return (h, c, n, np.zeros_like(m)), h


def min_gru(p, state, x):
    z, v = np.split(x @ p["input_kernel"] + p["bias"], 2)
    h = (1 - sigmoid(z)) * state[0] + sigmoid(z) * v
    return (h,), h


def min_lstm(p, state, x):
    f, i, v = np.split(x @ p["input_kernel"] + p["bias"], 3)
    f, i = sigmoid(f), sigmoid(i)
    h = (f * state[0] + i * v) / (f + i)
    return (h,), h


def convolve(x, kernel):
    """By hand: zero padding, so that the map keeps its size; the window's middle lies on the place."""
    space = x.shape[:-1]
    out = np.zeros((*space, kernel.shape[-1]))
    for place in np.ndindex(*space):
        for offset in np.ndindex(*kernel.shape[:-2]):
            source = tuple(p + o - (size - 1) // 2 for p, o, size in zip(place, offset, kernel.shape[:-2], strict=True))
            if all(0 <= s < size for s, size in zip(source, space, strict=True)):
                out[place] += x[source] @ kernel[offset]
    return out


def conv(p, state, x):
    h, c = state
    i, f, g, o = np.split(convolve(x, p["input_kernel"]) + convolve(h, p["recurrent_kernel"]) + p["bias"], 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


STEPS = {
    step.__name__: step
    for step in (
        *(simple, gru, gru_original, lstm, coupled, no_input_gate, no_forget_gate, no_output_gate, capped, janet),
        *(clipped, relu, peephole, projected, layer_norm, gate_norm, batch_norm, multiplicative, mogrifier),
        *(slstm, min_gru, min_lstm),
    )
} | {"conv_1d": conv, "conv_2d": conv}


def run(name, params, xs, initial, reset, taken, resets, reverse):
    """Final states and outputs, row by row; states are tuples of arrays ``[B, ...]``."""
    finals, outputs = [], []
    for row in range(xs.shape[1]):
        state, ys = tuple(leaf[row] for leaf in initial), {}
        for t, fresh in reading_list(taken[:, row], resets[:, row], reverse):
            state = tuple(leaf[row] for leaf in reset) if fresh else state
            state, ys[t] = STEPS[name](params, state, xs[t, row])
        nothing = np.zeros_like(state[0])
        finals.append(state)
        outputs.append([ys.get(t, nothing) for t in range(len(xs))])
    final = tuple(np.stack(leaves) for leaves in zip(*finals, strict=True))
    return final, np.moveaxis(np.array(outputs), 0, 1)
