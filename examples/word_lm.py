"""Trains a language model of words and lets it write.

    python examples/word_lm.py                                                       # Python's own manual, from pydoc
    python examples/word_lm.py --data train.txt --valid valid.txt --test test.txt --minutes 30
    python examples/word_lm.py --load runs/words --prompt "the king of"

Files hold words divided by blanks; each line ends with a token of its own. Two LSTM layers, the embedding tied to the
last layer, dropout with one mask for all steps, windows of random length whose state is carried on, as in AWD-LSTM
(Merity, Keskar and Socher 2018). A softmax over all words takes most of the time on CPU, so training draws some words
to stand for all others; perplexities are of the full softmax, the training loss is not. Published on WikiText-2 for a
tied LSTM of 2 x 200: a perplexity of 110 after 6 epochs; the frequencies of words give 912, pairs of words 279. Expect
161 after 30 minutes on two CPU cores, 4 epochs, and 173 on the validation text.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved, texts
from common.ngrams import ngram_loss
from tokenizers import Tokenizer

from lstm_jax import decoding, training
from lstm_jax._core.stack import stack_zero_state
from lstm_jax.models import language_model as lm
from lstm_jax.models.layers import split_key
from lstm_jax.training import metrics

EXAMPLE = "word_lm"
EMBEDDING = 256
HIDDEN = 256
LAYERS = 2
BATCH = 32
WINDOW = 64
JITTER = 5.0
STEPS = 20_000
MINUTES = 10.0
LEARNING_RATE = 2e-3
SAMPLES = 2048
DROPOUT = 0.3
WORDS = 1 / 3
"""of --dropout, for whole words"""
VALID_WINDOW = 20
"""The full softmax of this many words at once, when validating."""


class Corpus(NamedTuple):
    """Texts as integers."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    codes: Tokenizer


def read_corpus(options: argparse.Namespace) -> Corpus:
    """From the files, or from the manual that comes with Python, a tenth of it to validate and another to test."""
    if options.data is None:
        from pydoc_data.topics import topics

        lines = [line for name in sorted(topics) for line in topics[name].split("\n")]
        first, second = len(lines) * 8 // 10, len(lines) * 9 // 10
        parts = [lines[:first], lines[first:second], lines[second:]]
    else:
        if options.valid is None or options.test is None:
            raise SystemExit("--data: got no --valid or no --test, want a file for each")
        names = ("--data", options.data), ("--valid", options.valid), ("--test", options.test)
        parts = [texts.read_lines(option, path, options.encoding) for option, path in names]
    codes = texts.word_codes(parts[0], options.least, lower=False)
    end = codes.token_to_id(texts.END)
    train, valid, test = (
        np.concatenate([[*found.ids, end] for found in codes.encode_batch(part)]).astype(np.int32) for part in parts
    )
    return Corpus(train, valid, test, codes)


def make_loss(options: argparse.Namespace, log_share: jax.Array) -> Any:
    """Nats of the next word: of a sampled softmax where there is a key, else of the full one."""
    rate = options.dropout
    dropout_rates = lm.DropoutRates(
        words=WORDS * rate, inputs=rate, between=rate, outputs=rate, weights=options.weight_drop
    )

    def loss(params: lm.LanguageModelParams, states: Any, text: training.TextWindow, key: Any) -> tuple:
        reading, drawing = split_key(key, 2)
        found = lm.apply(
            params, states, text.inputs, resets=text.resets, mask=text.taken, key=reading, dropout_rates=dropout_rates
        )
        if drawing is None or options.samples == 0:
            scores = lm.logits(params, found.ys)
            nats = optax.softmax_cross_entropy_with_integer_labels(scores, text.targets)
        else:
            nats = lm.sampled_softmax_loss(drawing, params, found.ys, text.targets, log_share, options.samples)
        measured: dict[str, Any] = {"loss": metrics.mean(nats, text.taken)}
        if key is None:
            measured["perplexity"] = metrics.perplexity(nats, text.taken)
        return jnp.mean(nats, where=text.taken), (found.states, measured)

    return loss


def make_optimizer(options: argparse.Namespace) -> optax.GradientTransformation:
    """Adam whose rate falls with the progress; or plain gradient descent that averages once validation stalls."""
    if options.optimizer == "adam":
        return training.adam(options.rate)
    return optax.chain(optax.clip_by_global_norm(0.25), optax.sgd(options.rate), training.nt_asgd())


def train(corpus: Corpus, options: argparse.Namespace) -> tuple[training.FitResult, Any]:
    """The best parameters on the validation part, and the loss."""
    keys = jax.random.split(jax.random.key(options.seed))
    counts = np.bincount(corpus.train, minlength=corpus.codes.get_vocab_size())
    loss = make_loss(options, jnp.asarray(0.75 * np.log(np.maximum(counts, 0.5)), jnp.float32))
    params = lm.init_language_model(keys[0], **sizes(len(counts), options))
    if len(corpus.train) <= options.batch * options.window:
        raise SystemExit(
            f"--data: got {len(corpus.train)} words, want more than --batch {options.batch} times --window "
            f"{options.window}"
        )
    batches = training.Stream(corpus.train, options.batch, options.window, jitter=JITTER, seed=options.seed)
    average = options.optimizer == "nt-asgd"
    fitted = training.fit(
        loss,
        params,
        batches,
        make_optimizer(options),
        steps=options.steps,
        key=keys[1],
        carry=stack_zero_state(params.layers, (options.batch,)),
        minutes=options.minutes,
        validation=training.Validation(
            held_out("--valid", corpus.valid, options),
            options.every or len(batches),
            carry=stack_zero_state(params.layers, (options.batch,)),
            params=(lambda state: training.averaged_params(state.opt_state))
            if average
            else (lambda state: state.params),
        ),
        saving=options.save and training.Saving(options.save / "run", every=500, resume=options.resume),
    )
    return fitted, loss


def sizes(vocabulary: int, options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init_language_model``."""
    return {
        "vocab_size": vocabulary,
        "embedding_size": options.embedding,
        "hidden_size": options.hidden,
        "num_layers": LAYERS,
    }


def held_out(option: str, codes: np.ndarray, options: argparse.Namespace) -> training.Stream:
    """A held-out text as streams, short windows because of the full softmax."""
    window = min(VALID_WINDOW, (len(codes) - 1) // options.batch)
    if window < 1:
        raise SystemExit(f"{option}: got {len(codes)} words, want more than --batch {options.batch}")
    return training.Stream(codes, options.batch, window)


def write(params: lm.LanguageModelParams, codes: Tokenizer, prompt: str, options: argparse.Namespace) -> str:
    """The prompt and what the model goes on with."""
    read = np.array(codes.encode(prompt).ids or texts.encode(codes, [texts.END])[0])
    states = lm.apply(params, None, jnp.asarray(read[:-1])).states if len(read) > 1 else stack_zero_state(params.layers)
    drawn = decoding.sample(
        jax.random.key(options.seed),
        lm.decode_step,
        params._replace(bias=params.bias.at[:2].set(-jnp.inf)),  # no unknown word and no start
        states,
        read[-1],
        max_length=options.length,
        temperature=options.temperature,
        top_p=options.top_p,
    )
    words = [codes.decode([int(code)], skip_special_tokens=False) for code in drawn.tokens]
    return " ".join([prompt, *words]).replace(f" {texts.END}", "\n")


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="training text (default: Python's manual)")
    parser.add_argument("--valid", type=Path, help="text to choose the best parameters by")
    parser.add_argument("--test", type=Path, help="text to report on")
    parser.add_argument("--encoding", default="utf-8", help="of the files (%(default)s)")
    parser.add_argument(
        "--least", type=results.whole, default=1, help="times a word must occur to be one (%(default)s)"
    )
    parser.add_argument("--minutes", type=results.positive, default=MINUTES, help="training time at most (%(default)s)")
    parser.add_argument("--steps", type=results.whole, default=STEPS, help="training steps at most (%(default)s)")
    parser.add_argument("--every", type=results.whole, help="steps between validations (default: an epoch)")
    parser.add_argument("--embedding", type=results.whole, default=EMBEDDING, help="size of embeddings (%(default)s)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units of the first layer (%(default)s)")
    parser.add_argument("--batch", type=results.whole, default=BATCH, help="parallel streams (%(default)s)")
    parser.add_argument("--window", type=results.whole, default=WINDOW, help="words a stream and step (%(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="words in training's softmax, 0 all (%(default)s)")
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="of inputs and outputs (%(default)s)")
    parser.add_argument("--weight-drop", type=results.rate, default=0.0, help="of recurrent weights (%(default)s)")
    parser.add_argument("--optimizer", choices=("adam", "nt-asgd"), default="adam", help="(%(default)s)")
    parser.add_argument(
        "--rate", type=results.positive, help=f"learning rate (default: {LEARNING_RATE}, for nt-asgd 20)"
    )
    parser.add_argument("--prompt", default="The", help="words the sample continues (%(default)s)")
    parser.add_argument("--length", type=results.whole, default=80, help="words to write (%(default)s)")
    parser.add_argument("--temperature", type=results.positive, default=0.9, help="below 1 is safer (%(default)s)")
    parser.add_argument("--top-p", type=float, default=0.95, help="draw among the likeliest only (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --save")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: write only")
    parser.add_argument("--picture", type=Path, default=Path("word_lm.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    options.rate = options.rate or (LEARNING_RATE if options.optimizer == "adam" else 20.0)
    if options.smoke:
        options.steps, options.embedding, options.hidden, options.samples, options.length = 3, 16, 16, 64, 10
        options.least = 20
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, reports, draws, writes; returns the perplexity on the test text."""
    options = parse_options(arguments)
    if options.load:
        params, _, (codes,) = saved.load(options.load, EXAMPLE, lm.init_language_model, "tokenizer")
        print(write(params, codes, options.prompt, options))
        return math.nan
    corpus = read_corpus(options)
    size = corpus.codes.get_vocab_size()
    print(f"{len(corpus.train):,} words to train on, {size:,} different")
    rows = held_out("--test", corpus.test, options)
    began = time.monotonic()
    try:
        fitted, loss = train(corpus, options)
    except training.CheckpointError as error:
        raise SystemExit(f"--save: {str(error).replace('resume=True', '--resume')}") from None
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, fitted.params, {"sizes": sizes(size, options)}, tokenizer=corpus.codes)
    states = stack_zero_state(fitted.params.layers, (options.batch,))
    perplexity = training.make_evaluate(loss)(fitted.params, rows, states)["perplexity"]
    valid = fitted.best["valid perplexity"] if fitted.best else math.nan
    naive = {
        name: math.exp(ngram_loss(corpus.train, corpus.test, size, order))
        for order, name in ((1, "frequencies"), (2, "pairs"))
    }
    print(f"\nTraining ended: {fitted.ended}, step {int(fitted.state.step)}. Perplexity on the test text:")
    for name, value in {**naive, "LSTM": perplexity, "LSTM, validation": valid}.items():
        print(f"  {name:17} {value:8.1f}")
    lines = {name: math.log(value) for name, value in naive.items()}
    training.plot_curve(fitted.history, options.picture, title="nats a word, LSTM", lines=lines)
    print(f"\nThe model writes:\n\n{write(fitted.params, corpus.codes, options.prompt, options)}")
    results.record(
        options,
        params=fitted.params,
        seconds=seconds,
        measured={"test perplexity": perplexity, "validation perplexity": valid},
        naive=naive,
        notes=f"{int(fitted.state.step)} steps",
    )
    return perplexity


if __name__ == "__main__":
    main()
