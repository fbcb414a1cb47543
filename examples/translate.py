"""Translates: an encoder that reads both ways, a decoder with or without attention, beam search.

    python examples/translate.py                                                  # numbers from words to digits
    python examples/translate.py --data train.de train.en --valid val.de val.en --test test.de test.en
    python examples/translate.py --data ... --attention none
    python examples/translate.py --load runs/de-en --text "ein hund rennt durch den schnee ."

Of two files, plain or ending in .gz, line by line the second translates the first. Words are cut into the pieces that
byte-pair encoding finds in the training text, in lower case. Expect BLEU (sacrebleu, lower case) of 42 from German to
English on Multi30k with attention after the default 10 epochs, and of 30 without, an hour on one CPU core each. The
files are in data/task1/raw of the repository multi30k/dataset.
"""

import argparse
import math
import random
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sacrebleu
from common import results, saved, texts
from tokenizers import Tokenizer

import lstm_jax as lj
from lstm_jax import decoding, training
from lstm_jax.models import seq2seq
from lstm_jax.training import metrics

EXAMPLE = "translate"
HIDDEN = 256
PIECES = 5000
LONGEST = 50
BATCH = 64
EPOCHS = 10
LEARNING_RATE = 2e-3
DROPOUT = 0.3
SMOOTHING = 0.1
BEAMS = 5
AT_ONCE = 100
START, END = 1, 2


class Pairs(NamedTuple):
    """Sentences and their translations."""

    source: list[str]
    target: list[str]


class Corpus(NamedTuple):
    """The three parts, and the pieces of both languages."""

    train: Pairs
    valid: Pairs
    test: Pairs
    source: Tokenizer
    target: Tokenizer


WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ONES = [*WORDS.split(), "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """12345 as twelve thousand three hundred and forty five."""
    if number >= 1000:
        rest = f" {in_words(number % 1000)}" if number % 1000 else ""
        return f"{in_words(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" and {in_words(number % 100)}" if number % 100 else ""
        return f"{in_words(number // 100)} hundred{rest}"
    if number >= 20:
        return " ".join([TENS[number // 10 - 2], *([ONES[number % 10]] if number % 10 else [])])
    return ONES[number]


def synthetic(count: int, seed: int) -> Pairs:
    """Numbers below a million in words, and their digits."""
    draw = random.Random(seed)
    drawn = [draw.randrange(10 ** draw.randrange(1, 7)) for _ in range(count)]
    return Pairs([in_words(number) for number in drawn], [" ".join(str(number)) for number in drawn])


def read_pairs(option: str, paths: list[Path], encoding: str) -> Pairs:
    """Two files of as many lines."""
    source, target = (texts.read_lines(option, path, encoding) for path in paths)
    if len(source) != len(target):
        raise SystemExit(f"{option}: {paths[0]} has {len(source)} lines and {paths[1]} {len(target)}, want as many")
    empty = [k for k, pair in enumerate(zip(source, target, strict=True), start=1) if not all(map(str.strip, pair))]
    if empty:
        raise SystemExit(f"{option}: line {empty[0]} of {paths[0]} or {paths[1]} is empty, want a sentence in each")
    return Pairs(source, target)


def read_corpus(options: argparse.Namespace) -> Corpus:
    """From the files, or made up."""
    if options.data is None:
        train, valid, test = (synthetic(count, seed) for seed, count in enumerate((5000, 500, 500)))
    else:
        if options.valid is None or options.test is None:
            raise SystemExit("--data: got no --valid or no --test, want two files for each")
        named = ("--data", options.data), ("--valid", options.valid), ("--test", options.test)
        train, valid, test = (read_pairs(option, paths, options.encoding) for option, paths in named)
    return Corpus(train, valid, test, *(texts.piece_codes(side, options.pieces) for side in train))


def batches(pairs: Pairs, corpus: Corpus, seed: int, buckets: int = 4) -> training.Bucketed:
    """Sentences as numbers, targets between START and END, by length; what is longer than LONGEST is cut."""
    source = [codes[:LONGEST] for codes in texts.encode(corpus.source, pairs.source)]
    target = [np.array([START, *codes[:LONGEST], END], np.int32) for codes in texts.encode(corpus.target, pairs.target)]
    return training.Bucketed((source, target), batch_size=BATCH, buckets=buckets, seed=seed)


def make_loss(rate: float) -> Any:
    """Cross-entropy of each next piece; smoothed labels (Szegedy et al. 2016) in training."""

    @training.stateless
    def loss(params: seq2seq.Seq2SeqParams, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        (source, target), (source_lengths, target_lengths) = batch.xs, batch.lengths
        logits = seq2seq.teacher_force(params, source, source_lengths, target[:-1], key=key, dropout_rate=rate).logits
        scored = lj.lengths_to_mask(target_lengths - 1, len(target) - 1) & batch.real[None]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, target[1:])
        aim = nats
        if key is not None:
            even = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
            aim = (1 - SMOOTHING) * nats + SMOOTHING * even
        return jnp.mean(aim, where=scored), {
            "loss": metrics.mean(aim, scored),
            "perplexity": metrics.perplexity(nats, scored),
        }

    return loss


def train(corpus: Corpus, options: argparse.Namespace) -> training.FitResult:
    """The parameters that were best on the validation part."""
    keys = jax.random.split(jax.random.key(options.seed))
    params = seq2seq.init_seq2seq(keys[0], **sizes(corpus, options))
    data = batches(corpus.train, corpus, options.seed, options.buckets)
    return training.fit(
        make_loss(options.dropout),
        params,
        data,
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(batches(corpus.valid, corpus, 0, options.buckets), len(data)),
    )


def sizes(corpus: Corpus, options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init_seq2seq``."""
    return {
        "source_vocab_size": corpus.source.get_vocab_size(),
        "target_vocab_size": corpus.target.get_vocab_size(),
        "embedding_size": options.hidden,
        "hidden_size": options.hidden,
        "use_attention": options.attention == "additive",
    }


@partial(jax.jit, static_argnames=("beams", "length"))
def search(
    params: seq2seq.Seq2SeqParams, source: jax.Array, lengths: jax.Array, beams: int, length: int
) -> decoding.DecodeResult:
    """The best translation of every sentence ``[S, B]``; 0 beams: greedily."""
    memory, states = seq2seq.encode(params, source, lengths)
    if beams == 0:
        one = partial(decoding.greedy, seq2seq.decode_step, max_length=length, eos_token=END)
        return jax.vmap(one, in_axes=((None, 1), 0, None))((params, memory), states, START)
    wide = partial(
        decoding.beam_search, seq2seq.decode_step, beam_size=beams, max_length=length, eos_token=END, length_penalty=1.0
    )
    found = jax.vmap(wide, in_axes=((None, 1), 0, None))((params, memory), states, START)
    return jax.tree.map(lambda leaf: leaf[:, 0], found)


def translate(params: Any, source: Tokenizer, target: Tokenizer, lines: list[str], beams: int) -> list[str]:
    """The best translation of each line, many lines at once, similar lengths together."""
    codes = [one[:LONGEST] for one in texts.encode(source, lines)]
    order = sorted(range(len(codes)), key=lambda place: len(codes[place]))
    found = [""] * len(codes)
    width = min(AT_ONCE, len(codes))
    for start in range(0, len(order), width):
        rows = np.resize(order[start : start + width], width)
        steps = -(-max(len(codes[row]) for row in rows) // 10) * 10  # a multiple of ten: few programs
        xs = np.zeros((steps, width), np.int32)
        for column, row in enumerate(rows):
            xs[: len(codes[row]), column] = codes[row]
        best = search(params, xs, np.array([len(codes[row]) for row in rows], np.int32), beams, 2 * steps + 10)
        for column, row in enumerate(rows):
            found[row] = target.decode(np.asarray(best.tokens[column, : best.length[column]]).tolist())
    return found


def show_attention(params: Any, corpus: Corpus, line: str, answer: str, path: Path) -> None:
    """A picture: which pieces of the source each piece of the translation looked at."""
    from matplotlib.figure import Figure

    source, target = corpus.source.encode(line), corpus.target.encode(answer)
    weights = seq2seq.teacher_force(
        params, jnp.array(source.ids), jnp.int32(len(source.ids)), jnp.array([START, *target.ids])
    ).weights
    figure = Figure(figsize=(1.5 + 0.42 * len(source.ids), 1.5 + 0.36 * len(target.ids)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source.ids)), source.tokens, rotation=60, ha="right")
    axes.set_yticks(range(len(target.ids) + 1), [*target.tokens, texts.END])
    axes.set(xlabel="source", ylabel="translation")
    figure.colorbar(image, label="attention")
    figure.savefig(path, dpi=120)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, part in (("data", "training"), ("valid", "validation"), ("test", "test")):
        parser.add_argument(f"--{name}", type=Path, nargs=2, metavar="FILE", help=f"{part} sentences, translations")
    parser.add_argument("--encoding", default="utf-8", help="of the files (%(default)s)")
    parser.add_argument("--attention", choices=("additive", "none"), default="additive", help="(%(default)s)")
    parser.add_argument("--pieces", type=results.whole, default=PIECES, help="of words in each language (%(default)s)")
    parser.add_argument(
        "--hidden", type=results.whole, default=HIDDEN, help="units each way, and embedding (%(default)s)"
    )
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="(%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--beams", type=results.whole, default=BEAMS, help="(%(default)s)")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: translate --text, train nothing")
    parser.add_argument("--text", action="append", default=[], help="sentence to translate; may be given again")
    parser.add_argument("--picture", type=Path, default=Path("translate.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.load and not options.text:
        parser.error("--load: got no --text, want a sentence to translate")
    if any(not text.strip() for text in options.text):
        parser.error("--text: got no word, want at least one")
    options.buckets = 4
    if options.smoke:
        options.steps, options.hidden, options.buckets = 3, 16, 1
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, translates, reports, draws; returns the BLEU of the test sentences."""
    options = parse_options(arguments)
    if options.load:
        init = seq2seq.init_seq2seq
        params, _, (source, target) = saved.load(options.load, EXAMPLE, init, "source", "target")
        found = translate(params, source, target, options.text, options.beams)
        print("\n".join(f"{line}\n  {made}" for line, made in zip(options.text, found, strict=True)))
        return math.nan
    corpus = read_corpus(options)
    print(
        f"{len(corpus.train.source):,} pairs, {corpus.source.get_vocab_size():,} and "
        f"{corpus.target.get_vocab_size():,} pieces"
    )
    began = time.monotonic()
    fitted = train(corpus, options)
    seconds = time.monotonic() - began
    if options.save:
        notes = {"sizes": sizes(corpus, options)}
        saved.save(options.save, EXAMPLE, fitted.params, notes, source=corpus.source, target=corpus.target)
    test = Pairs(*(side[:20] for side in corpus.test)) if options.smoke else corpus.test
    score = training.make_evaluate(make_loss(0.0))(fitted.params, batches(test, corpus, 0, options.buckets))
    bleu = []
    for beams in (0, options.beams):
        found = translate(fitted.params, corpus.source, corpus.target, test.source, beams)
        bleu.append(sacrebleu.corpus_bleu(found, [test.target], lowercase=True).score)
    naive = sacrebleu.corpus_bleu(test.source, [test.target], lowercase=True).score
    print(
        f"\nperplexity of a piece {score['perplexity']:.2f}; BLEU, greedy {bleu[0]:.1f}, {options.beams} beams "
        f"{bleu[1]:.1f}; source as it is {naive:.1f}\n"
    )
    for line, made, wanted in list(zip(test.source, found, test.target, strict=True))[:5]:
        print(f"  {line}\n  -> {made}\n   = {wanted}\n")
    if options.attention != "none":
        show_attention(fitted.params, corpus, test.source[0], found[0], options.picture)
    results.record(
        options,
        params=fitted.params,
        seconds=seconds,
        measured={"BLEU": bleu[1], "BLEU, greedy": bleu[0], "perplexity of a piece": score["perplexity"]},
        naive={"BLEU of the source as it is": naive},
    )
    return bleu[1]


if __name__ == "__main__":
    main()
