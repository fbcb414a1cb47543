"""Trains a character language model on a text and samples from it.

    python examples/char_lm.py                                       # the Python standard library's own source
    python examples/char_lm.py --data FILE --minutes 30              # any UTF-8 text
    python examples/char_lm.py --save runs/python --resume           # saves checkpoints, continues from the newest
    python examples/char_lm.py --load runs/python --prompt "def "    # samples only
    python examples/char_lm.py --set mesh=data=8    # 8 devices; of two processes, processes=HOST:PORT,2,0 and ...,2,1

Expect, on the default text and two CPU cores, less than 1.45 nats (2.09 bits) a character on the held-out last tenth
after at most 4 minutes, where a trigram model reaches about 1.9 nats. After Ctrl-C it samples from the best parameters.
The model that --save keeps is used in three lines of Python, in the folder examples:

    import char_lm
    model = char_lm.load("runs/python")
    print(char_lm.write(model, "def "))
"""

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from common import characters, ngrams, results, saved
from common.options import MODEL_FLAGS, Count, Positive, Rate, new_parser, parse, positive

import lstm_jax as lj
from lstm_jax import decoding, training
from lstm_jax.training import metrics

EMBEDDING_SIZE = 96
LEARNING_RATE = 4e-3
NUM_VALIDATIONS = 10


class Settings(NamedTuple):
    """Settings of the model, its training and its writing; --set NAME=VALUE changes one."""

    seed: int = 0
    hidden: Count = 320
    batch: Count = 32  # parallel streams
    window: Count = 128  # characters of a stream in a step
    dropout: Rate = 0.0  # on the LSTM's outputs
    steps: Count = 1600  # at most, as --minutes
    test_share: Rate = 0.0  # of the text, at its end
    encoding: str = "utf-8"  # "bytes" predicts bytes
    temperature: Positive = 0.7  # below 1 is safer
    length: Count = 800  # characters to write
    mesh: str | None = None  # devices that share each batch
    processes: str | None = None  # address of process 0, number of processes, index of this one


def init_model(key: jax.Array, vocab_size: int, hidden_size: int) -> dict[str, Any]:
    """Initializes an embedding, an LSTM, and a dense layer for the logits of the next character."""
    embedding_key, lstm_key, head_key = jax.random.split(key, 3)
    return {
        "embedding": jax.random.normal(embedding_key, (vocab_size, EMBEDDING_SIZE)),
        "lstm": lj.init_params(lstm_key, EMBEDDING_SIZE, hidden_size),
        "head": jax.random.normal(head_key, (hidden_size, vocab_size)) * hidden_size**-0.5,
        "head_bias": jnp.zeros(vocab_size),
    }


def loss_fn(params: Any, state: lj.LSTMState, text: training.TextWindow, key: Any, dropout: float = 0.0) -> tuple:
    """Returns (mean nats per character, (state for the next window, metrics)); a key enables dropout."""
    state, ys = lj.lstm(params["lstm"], params["embedding"][text.inputs], state, resets=text.resets)
    if key is not None:
        ys = lj.regularizers.dropout(key, ys, dropout)
    logits = ys @ params["head"] + params["head_bias"]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, text.targets)
    return nats.mean(), (state, {"loss": metrics.mean(nats)})


def train(corpus: characters.Corpus, options: argparse.Namespace) -> training.FitResult:
    """Trains until the limit of steps or minutes, or Ctrl-C; keeps the best parameters on the held-out part."""
    init_key, fit_key = jax.random.split(jax.random.key(options.seed))
    params = init_model(init_key, len(corpus.alphabet), options.hidden)
    held_out, rows = characters.stream_held_out(corpus.valid, options, jax.device_count() if options.mesh else 1)
    every = max(1, options.steps // NUM_VALIDATIONS)
    return training.fit(
        partial(loss_fn, dropout=options.dropout),
        params,
        training.Stream(corpus.train, options.batch, options.window),
        training.adam(LEARNING_RATE, warmup=0.0),
        steps=options.steps,
        key=fit_key,
        carry=lj.zero_state(params["lstm"], (options.batch,)),
        minutes=options.minutes,
        validation=training.Validation(held_out, every, carry=lj.zero_state(params["lstm"], (rows,))),
        devices=options.mesh and training.Devices(training.parse_mesh(options.mesh)),
        saving=options.save and training.Saving(options.save, every=200, resume=options.resume),
    )


def next_character(params: Any, state: lj.LSTMState, code: jax.Array) -> tuple[lj.LSTMState, jax.Array]:
    """Returns (state, logits of the next character) after one character: a ``step`` for ``decoding``."""
    state, y = lj.lstm_cell(params["lstm"], state, params["embedding"][code])
    return state, y @ params["head"] + params["head_bias"]


def write(model: saved.Model, prompt: str | None, options: Any = None) -> str:
    """Returns the prompt and a sampled continuation; options (default: Settings) set its length and temperature."""
    params, alphabet, options = model.params, model.notes["alphabet"], options or Settings()
    codes = characters.encode(alphabet, prompt, model.notes["encoding"])
    state, _ = lj.lstm(params["lstm"], params["embedding"][codes[:-1]])
    sample = partial(decoding.sample, max_length=options.length, temperature=options.temperature)
    tokens = sample(jax.random.key(options.seed), next_character, params, state, codes[-1]).tokens
    return characters.decode(alphabet, [*codes, *tokens], model.notes["encoding"])


load = partial(saved.load, example="char_lm", init=init_model)


def main(arguments: list[str] | None = None) -> float:
    """Trains, plots and samples; returns the loss on the test part if there is one, else on the held-out part."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="text file (default: the standard library's source)")
    parser.add_argument("--minutes", type=positive, default=3.5, help="training time at most (%(default)s)")
    parser.add_argument("--prompt", help="text that the sample continues (default: a line break)")
    smoke = {"steps": 3, "hidden": 16, "length": 20}
    options = parse(parser, arguments, __file__, Settings, smoke=smoke, flags=(*MODEL_FLAGS, "resume"))
    if options.load:
        print(write(load(options.load), options.prompt, options))
        return math.nan
    characters.join_processes(options.processes)
    corpus = characters.read_corpus(options)
    with results.Timer() as timer:
        fitted = train(corpus, options)
    sizes = {"vocab_size": len(corpus.alphabet), "hidden_size": options.hidden}
    model = saved.Model(fitted.params, {"sizes": sizes, "alphabet": corpus.alphabet, "encoding": options.encoding})
    saved.save(options.save, options.example, model)
    loss, part, scored = fitted.best["valid loss"] if fitted.best else math.nan, "Held-out", corpus.valid
    if options.test_share:
        part, scored, (test, rows) = "Test", corpus.test, characters.stream_held_out(corpus.test, options)
        loss = results.evaluate(loss_fn, fitted.params, test, lj.zero_state(fitted.params["lstm"], (rows,)))["loss"]
    naive = ngrams.baselines(corpus.train, scored, len(corpus.alphabet), ("unigram", "bigram", "trigram"))
    scores = {name: (nats, nats / math.log(2)) for name, nats in {**naive, "LSTM": loss}.items()}
    results.print_scores(fitted, f"{part} text, nats and bits a character", scores, "6.3f")
    training.plot_curve(fitted.history, options.picture, title="nats a character, LSTM", lines=naive)
    print(f"\nThe model writes, temperature {options.temperature}:\n\n{write(model, options.prompt, options)}")
    measured, notes = {"nats a character": loss}, f"{int(fitted.state.step)} steps"
    results.record(options, fitted.params, timer.seconds, measured, naive, notes)
    return loss


if __name__ == "__main__":
    main()
