"""A small training run as a program of its own: killed, resumed, on one process or two, in the tests of those.

    python train_small.py --folder F --steps N [--resume] [--slow S] [--mesh data=2]
    python train_small.py --mesh data=2 --processes 2 --process 0 --port P

Prints the sum over the parameters' bits at the end, and each row of the history.
"""

import argparse
import json
import resource
import signal
import time
import zlib

import jax
import numpy as np
import optax

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics

ROWS, STEPS = 8, 12


def init(key, hidden):
    return {"lstm": lj.init_params(key, 4, hidden), "dense": 0.1 * jax.random.normal(key, (hidden, 4))}


def loss_fn(params, carry, text, key):
    carry, ys = lj.lstm(params["lstm"], jax.nn.one_hot(text.inputs, 4), carry, resets=text.resets)
    if key is not None:
        ys = lj.regularizers.dropout(key, ys, RATE)
    nats = optax.softmax_cross_entropy_with_integer_labels(ys @ params["dense"], text.targets)
    return nats.mean(), (carry, {"loss": metrics.mean(nats)})


def codes(count):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4, count)
    return np.where(rng.random(count) < 0.8, np.arange(count) // 2 % 4, noise).astype(np.int32)


class OwnRows:
    """The rows of this process alone, of batches ``[T, B]``."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        count = ROWS // jax.process_count()
        first = count * jax.process_index()
        return jax.tree.map(lambda leaf: leaf[:, first : first + count], self.batches[step])


def stream(count, options):
    batches = training.Stream(codes(count), ROWS, STEPS)
    return OwnRows(batches) if options.own_rows else batches


def run(options):
    params = init(jax.random.key(1), options.hidden)
    saving = training.Saving(options.folder, every=7, resume=options.resume) if options.folder else None
    callbacks = [lambda row, state: time.sleep(options.slow)] if options.slow else []
    if options.announce:
        callbacks.insert(0, lambda row, state: print("row", flush=True))
    return training.fit(
        loss_fn,
        params,
        stream(4000, options),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)),
        steps=options.steps,
        key=jax.random.key(2),
        carry=lj.zero_state(params["lstm"], (ROWS,)),
        validation=training.Validation(stream(800, options), 10, carry=lj.zero_state(params["lstm"], (ROWS,))),
        saving=saving,
        log_every=1,
        callbacks=callbacks,
        devices=options.mesh
        and training.Devices(training.parse_mesh(options.mesh), process_local_batches=options.own_rows),
        progress_bar=False,
    )


parser = argparse.ArgumentParser()
parser.add_argument("--folder")
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--hidden", type=int, default=10)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--largest", type=int, help="bytes that a file may grow to, as if the disk were full beyond")
parser.add_argument("--slow", type=float, default=0.0, help="seconds to wait after each row")
parser.add_argument("--announce", action="store_true", help="print a line at each row")
parser.add_argument("--own-rows", action="store_true", help="each process reads its rows only")
parser.add_argument("--rate", type=float, default=0.3)
parser.add_argument("--mesh")
parser.add_argument("--processes", type=int, default=1)
parser.add_argument("--process", type=int, default=0)
parser.add_argument("--port", type=int)
RATE = 0.3

if __name__ == "__main__":
    options = parser.parse_args()
    RATE = options.rate
    if options.largest:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.largest, resource.RLIM_INFINITY))
    if options.processes > 1:
        jax.distributed.initialize(f"localhost:{options.port}", options.processes, options.process)
    fitted = run(options)
    bits = 0
    for leaf in jax.tree.leaves((fitted.state.params, fitted.state.opt_state, fitted.params)):
        bits = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), bits)
    print(json.dumps({"bits": bits, "stop_reason": fitted.stop_reason, "history": fitted.history}))
