"""Translates sentences: a bidirectional encoder, a decoder with or without attention, beam search.

    python examples/translate.py                                                  # numbers from words to digits
    python examples/translate.py --data train.de train.en --valid val.de val.en --test test.de test.en
    python examples/translate.py --data ... --set attention=none                  # and --valid, --test as above
    python examples/translate.py --load runs/de-en --text "ein hund rennt durch den schnee ."

Each line of the second file, plain or ending in .gz, translates the same line of the first. Byte-pair encoding of the
training text splits lower-case words into subwords. Expect a BLEU (sacrebleu, lower case) of 42 from German to English
on Multi30k with attention after the default 10 epochs, and of 30 without, an hour on one CPU core each. The
files are in data/task1/raw of the repository multi30k/dataset. In Python, in the folder examples:

    import translate
    model = translate.load("runs/de-en")
    print(translate.translate(model, ["ein hund rennt durch den schnee ."]))
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from common import results, saved, sentences
from common.options import Count, Positive, Rate, check_texts, new_parser, parse
from common.sentences import END, START

import lstm_jax as lj
from lstm_jax import decoding, training
from lstm_jax.models import seq2seq
from lstm_jax.training import metrics

LEARNING_RATE = 2e-3
LABEL_SMOOTHING = 0.1


class Settings(NamedTuple):
    """Settings of the model, its training and its search; --set NAME=VALUE changes one."""

    attention: Literal["additive", "none"] = "additive"
    subwords: Count = 5000  # of each language, at most
    hidden: Count = 256  # units each way, and size of the embedding
    dropout: Rate = 0.3
    epochs: Count = 10
    steps: Count | None = None  # instead of epochs
    minutes: Positive | None = None  # at most
    buckets: Count = 4  # of sentences of like length
    beam_size: Count = 5
    encoding: str = "utf-8"


def make_loss(rate: float) -> Any:
    """Makes the cross-entropy of each next subword, with label smoothing (Szegedy et al. 2016) in training."""

    @training.stateless
    def loss(params: seq2seq.Seq2SeqParams, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict]:
        """Computes the loss of a batch and its metrics; a key enables dropout and label smoothing."""
        (source, target), (source_lengths, target_lengths) = batch.xs, batch.lengths
        logits = seq2seq.teacher_force(params, source, source_lengths, target[:-1], key=key, dropout_rate=rate).logits
        mask = lj.lengths_to_mask(target_lengths - 1, len(target) - 1) & batch.row_mask[None]
        nats = smoothed = optax.softmax_cross_entropy_with_integer_labels(logits, target[1:])
        if key is not None:
            uniform = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
            smoothed = (1 - LABEL_SMOOTHING) * nats + LABEL_SMOOTHING * uniform
        measured = {"loss": metrics.mean(smoothed, mask), "perplexity": metrics.perplexity(nats, mask)}
        return jnp.mean(smoothed, where=mask), measured

    return loss


def train(corpus: sentences.Corpus, sizes: dict[str, Any], options: argparse.Namespace) -> training.FitResult:
    """Trains and keeps the best parameters on the validation part."""
    keys = jax.random.split(jax.random.key(options.seed))
    data = sentences.make_batches(corpus.train, corpus, options.buckets, options.seed)
    held_out = sentences.make_batches(corpus.valid, corpus, options.buckets)
    return training.fit(
        make_loss(options.dropout),
        seq2seq.init_seq2seq(keys[0], **sizes),
        data,
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(held_out, len(data)),
    )


@partial(jax.jit, static_argnames=("beam_size", "max_length"))
def search(params: Any, source: Any, lengths: Any, max_length: int, *, beam_size: int) -> decoding.DecodeResult:
    """Finds the best translation of each sentence ``[S, B]`` with lengths ``[B]``; beam size 0 decodes greedily."""
    memory, states = seq2seq.encode(params, source, lengths)
    ends = {"max_length": max_length, "eos_token": END}
    if beam_size == 0:
        decode = partial(decoding.greedy, seq2seq.decode_step, **ends)
        return jax.vmap(decode, in_axes=((None, 1), 0, None))((params, memory), states, START)
    decode = partial(decoding.beam_search, seq2seq.decode_step, beam_size=beam_size, length_penalty=1.0, **ends)
    beams = jax.vmap(decode, in_axes=((None, 1), 0, None))((params, memory), states, START)
    return jax.tree.map(lambda leaf: leaf[:, 0], beams)


def translate(model: saved.Model, lines: Sequence[str], beam_size: int = 5) -> list[str]:
    """Translates each line by beam search; beam size 0 decodes greedily."""
    search_lines = partial(search, model.params, beam_size=beam_size)
    return sentences.translate_lines(search_lines, model.tokenizers["source"], model.tokenizers["target"], lines)


load = partial(saved.load, example="translate", init=seq2seq.init_seq2seq)


def main(arguments: list[str] | None = None) -> float:
    """Trains, translates, reports and plots; returns the BLEU of the test sentences."""
    parser = new_parser(__doc__)
    for name, part in (("data", "training"), ("valid", "validation"), ("test", "test")):
        parser.add_argument(f"--{name}", type=Path, nargs=2, metavar="FILE", help=f"{part} sentences, translations")
    parser.add_argument("--text", action="append", default=[], help="sentence to translate; may be given again")
    options = parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 16, "buckets": 1})
    check_texts(parser, options)
    if options.load:
        translations = translate(load(options.load), options.text, options.beam_size)
        print("\n".join(f"{line}\n  {output}" for line, output in zip(options.text, translations, strict=True)))
        return math.nan
    corpus = sentences.read_corpus(options)
    tokenizers = {"source": corpus.source_tokenizer, "target": corpus.target_tokenizer}
    sizes = {f"{side}_vocab_size": tokenizer.get_vocab_size() for side, tokenizer in tokenizers.items()}
    sizes |= {"embedding_size": options.hidden, "hidden_size": options.hidden}
    sizes |= {"use_attention": options.attention == "additive"}
    with results.Timer() as timer:
        fitted = train(corpus, sizes, options)
    model = saved.Model(fitted.params, {"sizes": sizes}, tokenizers)
    saved.save(options.save, options.example, model)
    tests = sentences.make_batches(corpus.test, corpus, options.buckets)
    perplexity = results.evaluate(make_loss(0.0), model.params, tests)["perplexity"]
    outputs = [translate(model, corpus.test.source, beam_size) for beam_size in (0, options.beam_size)]
    greedy, best = (sentences.bleu(output, corpus.test.target) for output in outputs)
    naive = {"BLEU of the source as it is": sentences.bleu(corpus.test.source, corpus.test.target)}
    measured = {"BLEU": best, "BLEU, greedy": greedy, "perplexity of a piece": perplexity}
    results.print_scores(fitted, f"Test sentences, {options.beam_size} beams", {**naive, **measured}, ".2f")
    sentences.print_samples(corpus.test, outputs[1])
    if options.attention != "none":
        sentences.plot_attention(model, corpus.test.source[0], outputs[1][0], options.picture)
    results.record(options, model.params, timer.seconds, measured, naive)
    return best


if __name__ == "__main__":
    main()
