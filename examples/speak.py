"""Speaks: frames of sound from a word, one after another, and back to a WAV file.

    python examples/speak.py                                                     # telephone tones
    python examples/speak.py --data recordings.tar.gz --recogniser runs/words    # digits, judged by recognise_speech.py
    python examples/speak.py --data recordings.tar.gz --load runs/speak --say 7 --sound seven.wav

Clips as for recognise_speech.py. An LSTM reads the frame before, with dropout (Wang et al. 2017, Tacotron: else it
copies), the word, the speaker and the time, and writes the next frame of log-mel energies and whether it is the last;
phases are found by Griffin and Lim 1984. The recogniser is a folder that recognise_speech.py --save wrote, or one
trained here for a minute. Expect it to hear every one of 180 spoken digits as the word it should be, after 19 minutes.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recognise_speech
from common import results, saved, sounds

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models import classifier
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, init_embedding
from lstm_jax.training import metrics

EXAMPLE = "speak"
HIDDEN = 256
PRENET, NAME = 64, 32
BATCH = 32
EPOCHS = 60
LEARNING_RATE = 2e-3
DROPOUT = 0.5
LONGEST = 100
"""frames of a clip, at most"""


class Params(NamedTuple):
    """Parameters of the model."""

    words: jax.Array
    """``[words, NAME]``"""
    speakers: jax.Array
    """``[speakers, NAME]``"""
    prenet: DenseParams
    layers: tuple[Any, ...]
    frame: DenseParams
    """``[H, F]``"""
    last: DenseParams
    """``[H, 1]``"""


class Who(NamedTuple):
    """Number of the word and of the speaker, ``[B]`` each."""

    word: Any
    speaker: Any


class Corpus(NamedTuple):
    """Clips as frames, who speaks, and what the numbers mean."""

    train: training.Bucketed
    valid: training.Bucketed
    words: list[str]
    speakers: list[str]
    scale: training.Scaler


def read_corpus(clips: list[sounds.Clip], options: argparse.Namespace) -> Corpus:
    """Clips with a number of 5 or more to learn from, the others to validate; the first LONGEST frames of each."""
    words, speakers = (sorted({getattr(clip, name) for clip in clips}) for name in ("label", "speaker"))
    frames = [sounds.log_mel(clip.samples)[:LONGEST] for clip in clips]
    learn = [clip.number >= 5 for clip in clips]
    scale = training.fit_scaler(np.concatenate([one for one, is_train in zip(frames, learn, strict=True) if is_train]))

    def part(chosen: bool) -> training.Bucketed:
        rows = [place for place, is_train in enumerate(learn) if is_train == chosen]
        if not rows:
            raise SystemExit("--data: want clips with numbers below 5 and from 5 on")
        who = Who(
            np.array([words.index(clips[row].label) for row in rows], np.int32),
            np.array([speakers.index(clips[row].speaker) for row in rows], np.int32),
        )
        data = [scale.transform(frames[row]) for row in rows]
        return training.Bucketed(data, who, BATCH, buckets=options.buckets, multiple=10, seed=options.seed)

    return Corpus(part(True), part(False), words, speakers, scale)


def init_model(key: jax.Array, words: int, speakers: int, hidden: int) -> Params:
    """Two LSTM layers."""
    keys = jax.random.split(key, 6)
    return Params(
        init_embedding(keys[0], words, NAME),
        init_embedding(keys[1], speakers, NAME),
        init_dense(keys[2], sounds.BINS, PRENET),
        lj.init_stack(keys[3], PRENET + 2 * NAME + 2, hidden, 2),
        init_dense(keys[4], hidden, sounds.BINS),
        init_dense(keys[5], hidden, 1),
    )


def go_on(
    params: Params, states: Any, before: jax.Array, who: Who, start: int | jax.Array, key: jax.Array, rate: float
) -> tuple[Any, jax.Array, jax.Array]:
    """(states, next frames ``[T, B, F]``, scores of being the last ``[T, B]``) behind ``before [T, B, F]``."""
    heard = dropout(key, jax.nn.relu(dense(params.prenet, before)), rate)
    steps = (start + jnp.arange(len(before), dtype=jnp.float32)) / LONGEST
    time_of = jnp.stack([steps, jnp.sqrt(steps)], axis=-1)[:, None]
    named = jnp.concatenate([params.words[who.word], params.speakers[who.speaker]], axis=-1)[None]
    wide = [jnp.broadcast_to(one, (*before.shape[:2], one.shape[-1])) for one in (named, time_of)]
    states, ys = lj.lstm_stack(params.layers, jnp.concatenate([heard, *wide], axis=-1), states)
    return states, dense(params.frame, ys), dense(params.last, ys)[..., 0]


def make_loss(rate: float) -> Any:
    """Absolute and squared error of each next frame, and the cross-entropy of its being the last."""

    @training.stateless
    def loss(params: Params, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        frames, lengths = batch.xs, batch.lengths
        before = jnp.concatenate([jnp.zeros_like(frames[:1]), frames[:-1]])
        drop = jax.random.key(0) if key is None else key  # dropout always: the model is never without it
        _, drawn, last = go_on(params, None, before, batch.labels, 0, drop, rate)
        there = lj.lengths_to_mask(lengths, len(frames)) & batch.real[None]
        error = drawn - frames
        off = (jnp.abs(error) + error**2).mean(axis=-1)
        ends = (jnp.arange(len(frames))[:, None] == lengths[None] - 1).astype(jnp.float32)
        stop = optax.sigmoid_binary_cross_entropy(last, ends)
        total = jnp.mean(off + stop, where=there)
        return total, {"loss": metrics.mean(off + stop, there), "frame": metrics.mean(off, there)}

    return loss


@partial(jax.jit, static_argnames="rate")
def speak(params: Params, who: Who, key: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    """(frames ``[LONGEST, B, F]``, how many of them are spoken ``[B]``)."""
    count = who.word.shape[0]

    def step(carry: tuple, now: tuple) -> tuple[tuple, tuple]:
        states, frame = carry
        number, key = now
        states, frames, last = go_on(params, states, frame[None], who, number, key, rate)
        return (states, frames[0]), (frames[0], last[0])

    start = (lj.stack_zero_state(params.layers, (count,)), jnp.zeros((count, sounds.BINS)))
    moments = (jnp.arange(LONGEST, dtype=jnp.float32), jax.random.split(key, LONGEST))
    _, (frames, last) = jax.lax.scan(step, start, moments)
    ended = (last > 0).at[-1].set(True)
    return frames, jnp.maximum(jnp.argmax(ended, axis=0) + 1, 8)


def clips_of(params: Params, corpus: Corpus, who: Who, seed: int) -> list[np.ndarray]:
    """Samples of each."""
    frames, lengths = speak(params, who, jax.random.key(seed), DROPOUT)
    return [
        sounds.to_samples(corpus.scale.inverse(np.asarray(frames[: int(length), row])))
        for row, length in enumerate(lengths)
    ]


def judged(spoken: list[np.ndarray], options: argparse.Namespace) -> list[str]:
    """The word that is heard in each, by --recogniser or by one trained here."""
    if options.recogniser:
        init = classifier.init_classifier
        params, notes, _ = saved.load(options.recogniser, recognise_speech.EXAMPLE, init)
        names, scale = notes["names"], training.Scaler(np.array(notes["mean"]), np.array(notes["deviation"]))
    else:
        arguments = ["--smoke"] if options.smoke else ["--epochs", "10"]
        chosen = recognise_speech.parse_options(arguments)
        chosen.data = options.data
        corpus = recognise_speech.read_corpus(chosen)
        names, scale = sorted(set(corpus.train.labels)), corpus.scale
        params = recognise_speech.train(corpus, names, chosen).params
    frames = [scale.transform(sounds.log_mel(samples)) for samples in spoken]
    return recognise_speech.hear(params, frames, names, "words")


def draw_spectra(frames: list[np.ndarray], titles: list[str], path: Path) -> None:
    """A picture: the log-mel frames of some clips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    parts = figure.subplots(2, -(-len(frames) // 2), squeeze=False, sharey=True)
    for axes, one, title in zip(parts.ravel(), frames, titles, strict=False):
        seconds = len(one) * sounds.HOP / sounds.RATE
        axes.imshow(one.T, origin="lower", aspect="auto", cmap="cividis", extent=(0, seconds, 0, sounds.BINS))
        axes.set_title(title, fontsize="small")
    figure.supxlabel("seconds")
    figure.supylabel("mel band")
    figure.savefig(path, dpi=110)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder or .tar.gz file of clips (default: telephone tones)")
    parser.add_argument("--recogniser", type=Path, help="a folder that recognise_speech.py --save wrote")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units of each layer (%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="(%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: speak only")
    parser.add_argument("--say", help="word for --sound (default: each is judged)")
    parser.add_argument("--speaker", help="who says it (default: the first)")
    parser.add_argument("--sound", type=Path, default=Path("speak.wav"), help="(%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("speak.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    options.buckets = 1 if options.smoke else 4
    if options.smoke:
        options.steps, options.hidden = 3, 16
    return options


def train(corpus: Corpus, options: argparse.Namespace) -> Params:
    """The last parameters: how well it sounds is not told by the error of a frame."""
    keys = jax.random.split(jax.random.key(options.seed))
    fitted = training.fit(
        make_loss(DROPOUT),
        init_model(keys[0], len(corpus.words), len(corpus.speakers), options.hidden),
        corpus.train,
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(corpus.train),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(corpus.valid, len(corpus.train)),
    )
    params: Params = fitted.state.params
    return params


def main(arguments: list[str] | None = None) -> float:
    """Trains, speaks every word by every speaker, lets it be judged; returns the share heard rightly."""
    options = parse_options(arguments)
    recorded = sounds.read_clips("--data", options.data) if options.data else sounds.synthetic(900, 0)
    corpus = read_corpus(recorded, options)
    for option, value, known in (("--say", options.say, corpus.words), ("--speaker", options.speaker, corpus.speakers)):
        if value is not None and value not in known:
            raise SystemExit(f"{option}: got {value!r}, want one of {known}")
    began = time.monotonic()
    if options.load:
        params, _, _ = saved.load(options.load, EXAMPLE, init_model)
    else:
        params = train(corpus, options)
    seconds = time.monotonic() - began
    if options.save:
        sizes = {"words": len(corpus.words), "speakers": len(corpus.speakers), "hidden": options.hidden}
        saved.save(options.save, EXAMPLE, params, {"sizes": sizes})
    pairs = [(word, speaker) for word in range(len(corpus.words)) for speaker in range(len(corpus.speakers))]
    times = 1 if options.smoke else 3
    who = Who(*(jnp.array(column * times, jnp.int32) for column in zip(*pairs, strict=True)))
    spoken = clips_of(params, corpus, who, options.seed)
    said = [corpus.words[int(word)] for word in who.word]
    heard = judged(spoken, options)
    right = float(np.mean([one == other for one, other in zip(said, heard, strict=True)]))
    print(f"\n{right:.1%} of {len(said)} spoken clips are heard as the word they should be")
    first = [place for place, speaker in enumerate(who.speaker[: len(pairs)]) if int(speaker) == 0][:10]
    titles = [f"{said[place]}, heard as {heard[place]}" for place in first]
    draw_spectra([sounds.log_mel(spoken[place]) for place in first], titles, options.picture)
    wanted = (options.say or corpus.words[0], options.speaker or corpus.speakers[0])
    place = pairs.index((corpus.words.index(wanted[0]), corpus.speakers.index(wanted[1])))
    sounds.write_wav(options.sound, spoken[place])
    print(f"{wanted[0]!r} by {wanted[1]}: {options.sound}")
    results.record(
        options,
        params=params,
        seconds=seconds,
        measured={"heard rightly": right},
        naive={"chance": 1 / len(corpus.words)},
    )
    return right


if __name__ == "__main__":
    main()
