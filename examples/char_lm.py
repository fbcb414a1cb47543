"""Trains a character language model on text and lets it write.

    python examples/char_lm.py                                  # the Python standard library's own source
    python examples/char_lm.py --corpus FILE --minutes 30       # any UTF-8 text
    python examples/char_lm.py --save runs/python --resume      # keeps checkpoints, and goes on from the newest
    python examples/char_lm.py --load runs/python --prompt "def " # writes only
    python examples/char_lm.py --mesh data=8                    # the same on eight devices
    python examples/char_lm.py --mesh data=2 --host HOST:PORT --processes 2 --process 0     # and 1 on the other

Expect, on the default corpus and two CPU cores, less than 1.45 nats (2.09 bits) a character on the held-out
last tenth after at most 4 minutes, where a trigram model reaches about 1.9 nats. Ctrl-C ends training early
and still writes. The validation curve is saved as a picture.
"""

import argparse
import math
import sysconfig
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved, texts
from common.ngrams import ngram_loss

import lstm_jax as lj
from lstm_jax import decoding, training
from lstm_jax.training import metrics

EXAMPLE = "char_lm"
HIDDEN = 320
EMBEDDING = 96
BATCH = 32
WINDOW = 128
STEPS = 1600
MINUTES = 3.5
LEARNING_RATE = 4e-3
VALIDATIONS = 10
SMOKED = 200_000
"""characters that --smoke reads"""
BITS = 1 / math.log(2)

Params = dict[str, Any]


class Corpus(NamedTuple):
    """Text as integer codes."""

    alphabet: list[str]
    train: np.ndarray
    """the first nine tenths"""
    valid: np.ndarray
    """the last tenth, or the tenth before the test part"""
    test: np.ndarray
    """the last part, if --test asks for one"""


def read_corpus(
    path: Path | None, batch: int, window: int, test: float = 0.0, encoding: str = "utf-8", most: int | None = None
) -> Corpus:
    """Reads the text up to ``most`` characters, numbers them and splits it; SystemExit if it cannot serve."""
    if path is None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        text = "".join(file.read_text(encoding="utf-8") for file in files)
    else:
        text = texts.read_text("--corpus", path, encoding)
    text = text[:most]
    last = len(text) - int(test * len(text))
    split = last - len(text) // 10
    need = batch * window + 1
    if split < need:
        raise SystemExit(
            f"--corpus: {path} has {len(text):,} characters, too short: one step of --batch {batch} streams with "
            f"--window {window} characters each needs {math.ceil(need * 10 / 9):,}; use a longer text or smaller ones"
        )
    if 0 < len(text) - last <= window:
        raise SystemExit(f"--test: {len(text) - last} characters, want more than --window {window}")
    alphabet = sorted(set(text))
    code = {character: number for number, character in enumerate(alphabet)}
    codes = np.array([code[character] for character in text], np.int32)
    return Corpus(alphabet, codes[:split], codes[split:last], codes[last:])


def init_model(key: jax.Array, size: int, hidden: int) -> Params:
    """Embedding, LSTM, and the dense layer to the logits."""
    embedding_key, lstm_key, head_key = jax.random.split(key, 3)
    return {
        "embedding": jax.random.normal(embedding_key, (size, EMBEDDING)),
        "lstm": lj.init_params(lstm_key, EMBEDDING, hidden),
        "head": jax.random.normal(head_key, (hidden, size)) * hidden**-0.5,
        "head_bias": jnp.zeros(size),
    }


def logits(params: Params, ys: jax.Array) -> jax.Array:
    """Outputs ``[..., H]`` to scores ``[..., size]`` of the next character."""
    return ys @ params["head"] + params["head_bias"]


def loss_fn(params: Params, state: lj.LSTMState, text: training.TextWindow, key: Any, dropout: float = 0.0) -> tuple:
    """Mean nats of the next characters, and the state behind them for the next window; dropout where there is a key."""
    state, ys = lj.lstm(params["lstm"], params["embedding"][text.inputs], state, resets=text.resets)
    if key is not None:
        ys = lj.regularizers.step_dropout(key, ys, dropout)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits(params, ys), text.targets)
    return nats.mean(), (state, {"loss": metrics.mean(nats)})


def next_character(params: Params, state: lj.LSTMState, code: jax.Array) -> tuple[lj.LSTMState, jax.Array]:
    """One character read, and the scores of the next one: a ``step`` for ``decoding``."""
    state, y = lj.lstm_cell(params["lstm"], state, params["embedding"][code])
    return state, logits(params, y)


def write(params: Params, alphabet: list[str], prompt: np.ndarray, options: argparse.Namespace) -> str:
    """The prompt's codes ``[T]`` and what the model goes on with."""
    state, _ = lj.lstm(params["lstm"], params["embedding"][prompt[:-1]])
    key, length = jax.random.key(options.seed), options.length
    drawn = decoding.sample(
        key, next_character, params, state, prompt[-1], max_length=length, temperature=options.temperature
    )
    text = "".join(alphabet[code] for code in [*prompt, *drawn.tokens])
    return text.encode("latin-1").decode(errors="replace") if options.encoding == "bytes" else text


def train(corpus: Corpus, options: argparse.Namespace) -> training.FitResult:
    """Until the steps or the minutes are used up, or Ctrl-C; the best parameters on the held-out part.

    The learning rate falls along a half cosine over whichever of steps and minutes is further.
    """
    init_key, fit_key = jax.random.split(jax.random.key(options.seed))
    params = init_model(init_key, len(corpus.alphabet), options.hidden)
    held_out, rows = held_out_stream(corpus.valid, options)
    return training.fit(
        partial(loss_fn, dropout=options.dropout),
        params,
        training.Stream(corpus.train, options.batch, options.window),
        training.adam(LEARNING_RATE, warmup=0.0),
        steps=options.steps,
        key=fit_key,
        carry=lj.zero_state(params["lstm"], (options.batch,)),
        minutes=options.minutes,
        validation=training.Validation(
            held_out, max(1, options.steps // VALIDATIONS), carry=lj.zero_state(params["lstm"], (rows,))
        ),
        devices=options.mesh and training.Devices(training.parse_mesh(options.mesh)),
        saving=options.save and training.Saving(options.save, every=200, resume=options.resume),
    )


def held_out_stream(codes: np.ndarray, options: argparse.Namespace) -> tuple[training.Stream, int]:
    """A held-out part in as many streams as it fills, and how many."""
    rows = min(options.batch, max(1, (len(codes) - 1) // options.window))
    rows -= rows % jax.device_count() if options.mesh else 0
    return training.Stream(codes, rows, min(options.window, len(codes) - 1)), rows


def encode_prompt(
    alphabet: list[str], prompt: str | None, encoding: str = "utf-8", option: str = "--prompt"
) -> np.ndarray:
    """The prompt's codes; SystemExit naming characters that the corpus does not have."""
    if not prompt:
        prompt = "\n" if "\n" in alphabet else alphabet[0]
    if encoding == "bytes":
        prompt = prompt.encode().decode("latin-1")
    unknown = sorted(set(prompt) - set(alphabet))
    if unknown:
        shown = prompt if len(prompt) < 80 else f"{prompt[:80]}..."
        raise SystemExit(f"{option}: got {shown!r}, want characters that occur in the corpus; these do not: {unknown}")
    return np.array([alphabet.index(character) for character in prompt], np.int32)


def load(folder: Path) -> tuple[Params, list[str], str]:
    """Parameters, alphabet and encoding of a model that --save kept."""
    params, notes, _ = saved.load(folder, EXAMPLE, init_model)
    return params, notes["alphabet"], notes["encoding"]


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text file (default: the standard library's source)")
    parser.add_argument("--steps", type=results.whole, default=STEPS, help="training steps at most (%(default)s)")
    parser.add_argument("--minutes", type=results.positive, default=MINUTES, help="training time at most (%(default)s)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="hidden size (%(default)s)")
    parser.add_argument("--batch", type=results.whole, default=BATCH, help="parallel streams (%(default)s)")
    parser.add_argument(
        "--window", type=results.whole, default=WINDOW, help="characters a stream and step (%(default)s)"
    )
    parser.add_argument("--dropout", type=results.rate, default=0.0, help="rate on the LSTM's outputs (%(default)s)")
    parser.add_argument("--encoding", default="utf-8", help="of the text; bytes: predict bytes (%(default)s)")
    parser.add_argument(
        "--test", type=results.rate, default=0.0, help="share of the text kept for a test (%(default)s)"
    )
    parser.add_argument("--prompt", help="text the sample continues (default: a line break)")
    parser.add_argument("--temperature", type=results.positive, default=0.7, help="below 1 is safer (%(default)s)")
    parser.add_argument("--length", type=results.whole, default=800, help="characters to write (%(default)s)")
    parser.add_argument("--mesh", help="devices to share each batch, for example data=8")
    parser.add_argument("--host", help="address and port of process 0, where several processes share the mesh")
    parser.add_argument("--processes", type=int, default=1, help="how many (%(default)s)")
    parser.add_argument("--process", type=int, default=0, help="which of them this one is (%(default)s)")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: write only")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --save")
    parser.add_argument("--picture", type=Path, default=Path("char_lm.png"), help="picture to save (%(default)s)")
    options = results.parse(parser, arguments, __file__)
    options.most = SMOKED if options.smoke else None
    if options.smoke:
        options.steps, options.hidden, options.length = 3, 16, 20
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, draws, writes; returns the loss on what was held out, or on the test part, in nats a character."""
    options = parse_options(arguments)
    if options.load:
        params, alphabet, options.encoding = load(options.load)
        print(write(params, alphabet, encode_prompt(alphabet, options.prompt, options.encoding), options))
        return math.nan
    if options.host:
        jax.distributed.initialize(options.host, options.processes, options.process)
    corpus = read_corpus(options.corpus, options.batch, options.window, options.test, options.encoding, options.most)
    prompt = encode_prompt(corpus.alphabet, options.prompt, options.encoding)
    print(f"{len(corpus.train):,} characters to train on, {len(corpus.valid):,} held out, {len(corpus.alphabet)} kinds")
    baselines = {
        name: ngram_loss(corpus.train, corpus.test if options.test else corpus.valid, len(corpus.alphabet), n)
        for n, name in enumerate(("unigram", "bigram", "trigram"), start=1)
    }
    began = time.monotonic()
    try:
        fitted = train(corpus, options)
    except training.CheckpointError as error:
        raise SystemExit(f"--save: {str(error).replace('resume=True', '--resume')}") from None
    seconds = time.monotonic() - began
    if options.save and not options.process:
        sizes = {"size": len(corpus.alphabet), "hidden": options.hidden}
        notes = {"sizes": sizes, "alphabet": corpus.alphabet, "encoding": options.encoding}
        saved.save(options.save, EXAMPLE, fitted.params, notes)
    loss = fitted.best["valid loss"] if fitted.best else math.nan
    if options.test:
        test, rows = held_out_stream(corpus.test, options)
        loss = training.make_evaluate(loss_fn)(fitted.params, test, lj.zero_state(fitted.params["lstm"], (rows,)))[
            "loss"
        ]
    kind = "Test" if options.test else "Held-out"
    print(f"\nTraining ended: {fitted.ended}, step {int(fitted.state.step)}. {kind} text, nats and bits a character:")
    for name, value in {**baselines, "LSTM": loss}.items():
        print(f"  {name:8} {value:6.3f} {value * BITS:6.3f}")
    training.plot_curve(fitted.history, options.picture, title="nats a character, LSTM", lines=baselines)
    print(f"\nThe model writes, temperature {options.temperature}:\n")
    print(write(fitted.params, corpus.alphabet, prompt, options))
    results.record(
        options,
        params=fitted.params,
        seconds=seconds,
        measured={"nats a character": loss},
        naive=baselines,
        notes=f"{int(fitted.state.step)} steps",
    )
    return loss


if __name__ == "__main__":
    main()
