"""Trains a word language model on a text and samples from it.

    python examples/word_lm.py                                                   # Python's own manual, from pydoc
    python examples/word_lm.py --data train.txt --valid valid.txt --test test.txt --set minutes=30
    python examples/word_lm.py --load runs/words --prompt "the king of"

Files have words separated by blanks; an end token follows each line. As in AWD-LSTM (Merity, Keskar and Socher 2018),
the model has an embedding tied to the last layer, dropout with one mask for all steps, and windows of random length
that pass on their state; here with two LSTM layers. Training uses a sampled softmax, perplexities the full one. Expect
161 on WikiText-2 after 30 minutes on two CPU cores; a bigram model has 279. In Python, in the folder examples:

    import word_lm
    model = word_lm.load("runs/words")
    print(word_lm.write(model, "the king of"))
"""

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from common import ngrams, results, saved, words
from common.options import Count, Positive, Rate, new_parser, parse

import lstm_jax as lj
from lstm_jax import decoding, training
from lstm_jax.models import language_model as lm
from lstm_jax.models.layers import split_key
from lstm_jax.training import metrics

WORD_DROPOUT_SHARE = 1 / 3  # dropout rate of whole words relative to ``dropout``


class Settings(NamedTuple):
    """Settings of the model, its training and its writing; --set NAME=VALUE changes one."""

    seed: int = 0
    embedding: Count = 256
    hidden: Count = 256  # of the first layer
    batch: Count = 32  # parallel streams
    window: Count = 64  # words of a stream in a step, about
    min_word_count: Count = 1  # times a word must occur to be one
    samples: int = 2048  # words in training's softmax; 0 takes all
    dropout: Rate = 0.3  # of inputs and outputs
    weight_drop: Rate = 0.0  # of recurrent weights
    optimizer: Literal["adam", "nt-asgd"] = "adam"
    learning_rate: Positive | None = None  # 2e-3 for adam, 20 for nt-asgd
    minutes: Positive = 10.0  # at most
    steps: Count = 20_000  # at most
    every: Count | None = None  # steps between validations, by default an epoch
    resume: bool = False  # whether to go on from the newest checkpoint in --save
    encoding: str = "utf-8"
    length: Count = 80  # words to write
    temperature: Positive = 0.9  # below 1 is safer
    top_p: Positive = 0.95  # samples among the likeliest words only


def make_loss(options: argparse.Namespace, log_shares: jax.Array) -> Any:
    """Makes the loss in nats per word: of a sampled softmax if the loss gets a key, else of the full softmax."""
    rate, word_rate = options.dropout, WORD_DROPOUT_SHARE * options.dropout
    rates = lm.DropoutRates(word_rate, input=rate, hidden=rate, output=rate, weight=options.weight_drop)

    def loss(params: lm.LanguageModelParams, states: Any, text: training.TextWindow, key: Any) -> tuple:
        """Computes the loss of a window; returns it with the final states and metrics."""
        dropout_key, sample_key = split_key(key, 2)
        masks = {"resets": text.resets, "mask": text.mask}
        output = lm.apply(params, states, text.inputs, **masks, key=dropout_key, dropout_rates=rates)
        if sample_key is None or options.samples == 0:
            nats = optax.softmax_cross_entropy_with_integer_labels(lm.logits(params, output.ys), text.targets)
        else:
            nats = lm.sampled_softmax_loss(sample_key, params, output.ys, text.targets, log_shares, options.samples)
        perplexity = {"perplexity": metrics.perplexity(nats, text.mask)} if key is None else {}
        return jnp.mean(nats, where=text.mask), (output.states, {"loss": metrics.mean(nats, text.mask), **perplexity})

    return loss


def train(corpus: words.Corpus, params: Any, loss: Any, options: argparse.Namespace, key: Any) -> training.FitResult:
    """Trains until the limit of steps or minutes, or Ctrl-C; keeps the best parameters on the validation text."""
    optimizer, kept_params = words.make_optimizer(options.optimizer, options.learning_rate)
    batches = words.stream_train(corpus.train, options)
    held_out = words.stream_held_out("--valid", corpus.valid, options)
    carry = lj.stack_zero_state(params.layers, (options.batch,))
    return training.fit(
        loss,
        params,
        batches,
        optimizer,
        steps=options.steps,
        key=key,
        carry=carry,
        minutes=options.minutes,
        validation=training.Validation(held_out, options.every or len(batches), carry=carry, params=kept_params),
        saving=options.save and training.Saving(options.save / "run", every=500, resume=options.resume),
    )


def write(model: saved.Model, prompt: str, options: Any = None) -> str:
    """Returns the prompt and a sampled continuation; options (default: Settings) set its length and temperature."""
    params, tokenizer, options = model.params, model.tokenizers["tokenizer"], options or Settings()
    codes = words.encode_prompt(tokenizer, prompt)
    states = lm.apply(params, None, codes[:-1]).states if len(codes) > 1 else lj.stack_zero_state(params.layers)
    params = params._replace(bias=params.bias.at[:2].set(-jnp.inf))  # neither the unknown word nor the start
    sample = partial(decoding.sample, max_length=options.length, temperature=options.temperature, top_p=options.top_p)
    tokens = sample(jax.random.key(options.seed), lm.decode_step, params, states, codes[-1]).tokens
    return words.decode(tokenizer, prompt, tokens)


load = partial(saved.load, example="word_lm", init=lm.init_language_model)


def main(arguments: list[str] | None = None) -> float:
    """Trains, reports, plots and samples; returns the perplexity on the test text."""
    parser = new_parser(__doc__)
    uses = {"data": "train on (default: Python's manual)", "valid": "choose the best epoch by", "test": "report on"}
    for name, use in uses.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"text to {use}")
    parser.add_argument("--prompt", default="The", help="words that the sample continues (%(default)s)")
    smoke = {"steps": 3, "embedding": 16, "hidden": 16, "samples": 64, "length": 10, "min_word_count": 20}
    options = parse(parser, arguments, __file__, Settings, smoke=smoke)
    if options.load:
        print(write(load(options.load), options.prompt, options))
        return math.nan
    corpus = words.read_corpus(options)
    test = words.stream_held_out("--test", corpus.test, options)
    vocab_size, keys = corpus.tokenizer.get_vocab_size(), jax.random.split(jax.random.key(options.seed))
    sizes = {"vocab_size": vocab_size, "embedding_size": options.embedding, "hidden_size": options.hidden}
    loss = make_loss(options, words.log_shares(corpus.train, vocab_size))
    with results.Timer() as timer:
        fitted = train(corpus, lm.init_language_model(keys[0], **sizes), loss, options, keys[1])
    model = saved.Model(fitted.params, {"sizes": sizes}, {"tokenizer": corpus.tokenizer})
    saved.save(options.save, options.example, model)
    carry = lj.stack_zero_state(fitted.params.layers, (options.batch,))
    perplexity = results.evaluate(loss, fitted.params, test, carry)["perplexity"]
    nats = ngrams.baselines(corpus.train, corpus.test, vocab_size, ("frequencies", "pairs"))
    naive = {name: math.exp(value) for name, value in nats.items()}
    measured = {"test perplexity": perplexity, "validation perplexity": (fitted.best or {})["valid perplexity"]}
    results.print_scores(fitted, "Perplexities", {**naive, **measured}, "8.1f")
    training.plot_curve(fitted.history, options.picture, title="nats a word, LSTM", lines=nats)
    print(f"\nThe model writes:\n\n{write(model, options.prompt, options)}")
    results.record(options, fitted.params, timer.seconds, measured, naive, f"{int(fitted.state.step)} steps")
    return perplexity


if __name__ == "__main__":
    main()
