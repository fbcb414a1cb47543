"""Trains a character language model on text and lets it write.

    python examples/char_lm.py                                  # the Python standard library's own source
    python examples/char_lm.py --corpus FILE --minutes 30       # any UTF-8 text

Expect, on the default corpus and two CPU cores, less than 1.45 nats (2.09 bits) a character on the held-out
last tenth after at most 4 minutes, where a trigram model reaches about 1.9 nats. Ctrl-C ends training early
and still writes. The validation curve is saved as a picture.
"""

import argparse
import math
import sysconfig
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from tqdm import tqdm

import lstm_jax as lj

HIDDEN = 320
EMBEDDING = 96
BATCH = 32
WINDOW = 128
STEPS = 1600
MINUTES = 3.5
LEARNING_RATE = 4e-3
VALIDATIONS = 10
BITS = 1 / math.log(2)

Params = dict[str, Any]


class Corpus(NamedTuple):
    """Text as integer codes."""

    alphabet: list[str]
    train: np.ndarray
    """the first nine tenths"""
    valid: np.ndarray
    """the last tenth"""


def read_corpus(path: Path | None, batch: int, window: int) -> Corpus:
    """Reads the text, numbers its characters and splits it; SystemExit with a message if it cannot serve."""
    if path is None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        text = "".join(file.read_text(encoding="utf-8") for file in files)
    else:
        text = _read_text(path)
    split = len(text) * 9 // 10
    need = batch * window + 1
    if split < need:
        raise SystemExit(
            f"--corpus: {path} has {len(text):,} characters, too short: one step of --batch {batch} streams with "
            f"--window {window} characters each needs {math.ceil(need * 10 / 9):,}; use a longer text or smaller ones"
        )
    alphabet = sorted(set(text))
    code = {character: number for number, character in enumerate(alphabet)}
    codes = np.array([code[character] for character in text], np.int32)
    return Corpus(alphabet, codes[:split], codes[split:])


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise SystemExit(f"--corpus: {path} is not a file")
    data = path.read_bytes()
    if not data:
        raise SystemExit(f"--corpus: {path} is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SystemExit(f"--corpus: {path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    if "\0" in text:
        raise SystemExit(f"--corpus: {path} looks binary: it holds a zero byte at {text.index(chr(0))}")
    return text.replace("\r\n", "\n")


def ngram_loss(corpus: Corpus, order: int) -> float:
    """Nats a character of an interpolated n-gram model on the held-out part.

    Each order leans on the one below: p(c | context) = (n(context, c) + s p(c | shorter)) / (n(context) + s).
    """
    strength = 5.0
    size = len(corpus.alphabet)
    probability = np.full(len(corpus.valid) - order + 1, 1 / size)
    for n in range(1, order + 1):
        train, valid = _grams(corpus.train, n, size), _grams(corpus.valid[order - n :], n, size)
        gram_count = _count(train, valid)
        context_count = _count(train // size, valid // size)
        probability = (gram_count + strength * probability) / (context_count + strength)
    return float(-np.log(probability).mean())


def _grams(codes: np.ndarray, n: int, size: int) -> np.ndarray:
    """One integer for each run of ``n`` codes; the last code is its remainder by ``size``."""
    runs = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int64), n)
    return runs @ size ** np.arange(n - 1, -1, -1, dtype=np.int64)


def _count(train: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    kinds, counts = np.unique(train, return_counts=True)
    place = np.minimum(np.searchsorted(kinds, wanted), len(kinds) - 1)
    return np.where(kinds[place] == wanted, counts[place], 0)


def init_model(key: jax.Array, size: int, hidden: int) -> Params:
    """Embedding, LSTM, and the dense layer to the logits."""
    embedding_key, lstm_key, head_key = jax.random.split(key, 3)
    return {
        "embedding": jax.random.normal(embedding_key, (size, EMBEDDING)),
        "lstm": lj.init_params(lstm_key, EMBEDDING, hidden),
        "head": jax.random.normal(head_key, (hidden, size)) * hidden**-0.5,
        "head_bias": jnp.zeros(size),
    }


def forward(params: Params, state: lj.LSTMState, codes: jax.Array) -> tuple[lj.LSTMState, jax.Array]:
    """Codes ``[T, *batch]`` to the LSTM's outputs ``[T, *batch, H]``, and the state after the last one."""
    return lj.lstm(params["lstm"], params["embedding"][codes], state)


def logits(params: Params, ys: jax.Array) -> jax.Array:
    """Outputs ``[..., H]`` to scores ``[..., size]`` of the next character."""
    return ys @ params["head"] + params["head_bias"]


def loss_fn(params: Params, state: lj.LSTMState, codes: jax.Array, keep: jax.Array | float = 1.0) -> tuple:
    """Mean nats of predicting ``codes[1:]`` from ``codes[:-1]``, ``[T, batch]``, and the state after them.

    ``keep`` multiplies the outputs ``[T, batch, H]``: a dropout mask in training.
    """
    state, ys = forward(params, state, codes[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits(params, ys * keep), codes[1:])
    return losses.mean(), state


def make_train_step(optimizer: optax.GradientTransformation, dropout: float) -> Any:
    """The compiled step: (params, optimizer state, LSTM state, codes, key) to the first three and the loss."""

    @jax.jit
    def train_step(params: Params, opt_state: Any, state: lj.LSTMState, codes: jax.Array, key: jax.Array) -> tuple:
        shape = (*codes[1:].shape, params["head"].shape[0])
        keep = jax.random.bernoulli(key, 1 - dropout, shape) / (1 - dropout) if dropout else 1.0
        (loss, state), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, state, codes, keep)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, state, loss

    return train_step


def windows(codes: np.ndarray, batch: int, window: int) -> Iterator[np.ndarray]:
    """Cuts the text into parallel streams and yields ``[window + 1, batch]`` pieces, in reading order.

    A piece starts with the last character of the one before, so that each character is predicted once.
    """
    length = (len(codes) - 1) // batch
    streams = np.stack([codes[k * length : (k + 1) * length + 1] for k in range(batch)], axis=1)
    for start in range(0, length - window + 1, window):
        yield streams[start : start + window + 1]


def evaluate(params: Params, codes: np.ndarray, batch: int, window: int) -> float:
    """Mean nats a character, the state carried from window to window."""
    batch = min(batch, max(1, (len(codes) - 1) // window))
    window = min(window, len(codes) - 1)
    state = lj.zero_state(params["lstm"], (batch,))
    losses = []
    for piece in windows(codes, batch, window):
        loss, state = _evaluate_piece(params, state, piece)
        losses.append(loss)
    return float(np.mean(losses))


_evaluate_piece = jax.jit(loss_fn)


@partial(jax.jit, static_argnums=4)
def generate(params: Params, prompt: jax.Array, key: jax.Array, temperature: jax.Array, length: int) -> jax.Array:
    """Reads the prompt's codes ``[T]``, then draws ``length`` characters, each fed back as the next input."""
    state, ys = forward(params, lj.zero_state(params["lstm"]), prompt)

    def draw(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        state, y = carry
        code = jax.random.categorical(key, logits(params, y) / temperature)
        return lj.lstm_cell(params["lstm"], state, params["embedding"][code]), code

    _, codes = jax.lax.scan(draw, (state, ys[-1]), jax.random.split(key, length))
    return codes


class Curve(NamedTuple):
    """Loss in nats a character against the training step."""

    train: list[tuple[int, float]]
    valid: list[tuple[int, float]]


def train(corpus: Corpus, options: argparse.Namespace) -> tuple[Params, Curve]:
    """Trains until the steps or the minutes are used up, or Ctrl-C; keeps the best parameters on ``valid``.

    The learning rate falls along a half cosine over whichever of steps and minutes is further.
    """
    key = jax.random.key(options.seed)
    params = init_model(key, len(corpus.alphabet), options.hidden)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adam)(learning_rate=LEARNING_RATE)
    )
    opt_state = optimizer.init(params)
    train_step = make_train_step(optimizer, options.dropout)
    curve, best = Curve([], []), params
    validate_every = max(1, options.steps // VALIDATIONS)
    start = time.monotonic()
    pieces: Iterator[np.ndarray] = iter(())
    bar = tqdm(range(1, options.steps + 1), unit="step", mininterval=0.5)
    try:
        for number in bar:
            if (piece := next(pieces, None)) is None:  # a new epoch
                pieces = windows(corpus.train, options.batch, options.window)
                piece, state = next(pieces), lj.zero_state(params["lstm"], (options.batch,))
            progress = max(number / options.steps, (time.monotonic() - start) / (60 * options.minutes))
            opt_state[1].hyperparams["learning_rate"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
            step_key = jax.random.fold_in(key, number)
            params, opt_state, state, loss = train_step(params, opt_state, state, piece, step_key)
            if number % 10 == 0:
                curve.train.append((number, float(loss)))
                bar.set_postfix_str(f"{float(loss) * BITS:.3f} bits/char")
            if number % validate_every == 0 or number == options.steps or progress >= 1:
                valid = evaluate(params, corpus.valid, options.batch, options.window)
                best = params if valid <= min((v for _, v in curve.valid), default=math.inf) else best
                curve.valid.append((number, valid))
                bar.write(f"step {number}: held-out {valid:.3f} nats = {valid * BITS:.3f} bits a character")
            if progress >= 1 and number < options.steps:
                bar.write(f"the {options.minutes} minutes of --minutes are over at step {number} of {options.steps}")
                break
    except KeyboardInterrupt:
        bar.write("interrupted: training ends here")
        best = best if curve.valid else params
    finally:
        bar.close()
    return best, curve


def draw_curve(path: Path, curve: Curve, baselines: dict[str, float]) -> None:
    """Saves the training and validation curves with the n-gram baselines as a picture."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps, losses = np.array(curve.train).T
    axes.plot(steps, losses, color="0.75", linewidth=1, label="training")
    if curve.valid:
        steps, losses = np.array(curve.valid).T
        axes.plot(steps, losses, "o-", label=f"held out, best {losses.min():.3f}")
    for (name, loss), style in zip(baselines.items(), (":", "-.", "--"), strict=True):
        axes.axhline(loss, color="tab:red", linestyle=style, linewidth=1, label=f"{name} {loss:.3f}")
    axes.set(xlabel="step", ylabel="nats per character", title="LSTM character language model")
    scales = (lambda nats: np.multiply(nats, BITS), lambda bits: np.divide(bits, BITS))
    axes.secondary_yaxis("right", functions=scales).set_ylabel("bits")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def encode_prompt(corpus: Corpus, prompt: str | None) -> np.ndarray:
    """The prompt's codes; SystemExit naming characters that the corpus does not have."""
    if not prompt:
        prompt = "\n" if "\n" in corpus.alphabet else corpus.alphabet[corpus.train[0]]
    unknown = sorted(set(prompt) - set(corpus.alphabet))
    if unknown:
        raise SystemExit(f"--prompt: got {prompt!r}, want characters that occur in the corpus; these do not: {unknown}")
    return np.array([corpus.alphabet.index(character) for character in prompt], np.int32)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text file (default: the standard library's source)")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps at most (%(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="training time at most (%(default)s)")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="hidden size (%(default)s)")
    parser.add_argument("--batch", type=int, default=BATCH, help="parallel streams (%(default)s)")
    parser.add_argument("--window", type=int, default=WINDOW, help="characters a stream and step (%(default)s)")
    parser.add_argument("--dropout", type=float, default=0.0, help="rate on the LSTM's outputs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (%(default)s)")
    parser.add_argument("--prompt", help="text the sample continues (default: a line break)")
    parser.add_argument("--temperature", type=float, default=0.7, help="below 1 is bolder (%(default)s)")
    parser.add_argument("--length", type=int, default=800, help="characters to write (%(default)s)")
    parser.add_argument("--curve", type=Path, default=Path("char_lm.png"), help="picture to save (%(default)s)")
    options = parser.parse_args(arguments)
    for name in ("steps", "minutes", "hidden", "batch", "window", "temperature", "length"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}: got {getattr(options, name)}, want more than 0")
    if not 0 <= options.dropout < 1:
        parser.error(f"--dropout: got {options.dropout}, want 0 or more and less than 1")
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, draws, writes; returns the best held-out loss in nats a character."""
    options = parse_options(arguments)
    corpus = read_corpus(options.corpus, options.batch, options.window)
    prompt = encode_prompt(corpus, options.prompt)
    print(f"{len(corpus.train):,} characters to train on, {len(corpus.valid):,} held out, {len(corpus.alphabet)} kinds")
    baselines = {name: ngram_loss(corpus, n) for n, name in enumerate(("unigram", "bigram", "trigram"), start=1)}
    params, curve = train(corpus, options)
    best = evaluate(params, corpus.valid, options.batch, options.window)
    print("\nHeld-out text, nats and bits a character:")
    for name, loss in {**baselines, "LSTM": best}.items():
        print(f"  {name:8} {loss:6.3f} {loss * BITS:6.3f}")
    if curve.train:
        draw_curve(options.curve, curve, baselines)
        print(f"Curve saved to {options.curve}")
    codes = generate(params, prompt, jax.random.key(options.seed), options.temperature, options.length)
    print(f"\nThe model writes, temperature {options.temperature}:\n")
    print("".join(corpus.alphabet[code] for code in np.concatenate([prompt, codes])))
    return best


if __name__ == "__main__":
    main()
