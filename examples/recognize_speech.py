"""Recognises speech: whole words, or strings of words letter by letter.

    python examples/recognise_speech.py                                              # telephone tones with noise
    python examples/recognise_speech.py --data recordings.tar.gz                     # spoken digits, one word a clip
    python examples/recognise_speech.py --data recordings.tar.gz --task letters      # strings of up to four, by CTC
    python examples/recognise_speech.py --load runs/words --listen clip.wav

--data is a folder or a .tar.gz file of WAV files, 8 kHz, 16 bits, one channel, named LABEL_SPEAKER_NUMBER.wav; numbers
below 5 are the test part, as in the Free Spoken Digit Dataset (Jakobovski/free-spoken-digit-dataset, its README), and
numbers 5 to 9 choose the best epoch. Letters: recordings of one speaker are joined at random, and nothing says where a
letter is. Expect 99.3 % of the words (a two-way LSTM is reported at 97.3 %, by another split), and 1.8 % of the letters
wrong, after 7 and 9 minutes.
"""

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jiwer
import numpy as np
import optax
from common import results, saved, sounds

import lstm_jax as lj
from lstm_jax import decoding, training
from lstm_jax.models import classifier, ctc_recognizer
from lstm_jax.training import metrics

EXAMPLE = "recognise_speech"
HIDDEN = 128
BATCH = 32
EPOCHS = {"words": 30, "letters": 12}
LEARNING_RATE = 2e-3
DROPOUT = 0.3
STRINGS, LONGEST = 4000, 4
BEAMS = 8
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = ["", " ", *sorted(set("".join(NAMES)))]
"""what CTC tells apart; the first is the blank"""


class Heard(NamedTuple):
    """Frames ``[T, F]`` of each clip, scaled, and what is said."""

    frames: list[np.ndarray]
    labels: list[str]


class Corpus(NamedTuple):
    """The three parts, and the scale of the training part."""

    train: Heard
    valid: Heard
    test: Heard
    scale: training.Scaler


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Clips, or strings of them."""
    clips = sounds.read_clips("--data", options.data) if options.data else sounds.synthetic(900, 0)
    parts = [[clip for clip in clips if low <= clip.number < high] for low, high in ((10, math.inf), (5, 10), (0, 5))]
    for name, part in zip(("10 or more", "5 to 9", "below 5"), parts, strict=True):
        if not part:
            raise SystemExit(f"--data: no clip has a number {name}, want some for each part")
    if options.task == "letters":
        unknown = {clip.label for clip in clips} - {str(digit) for digit in range(10)}
        if unknown:
            raise SystemExit(f"--data: got labels {sorted(unknown)}, want digits for --task letters")
        counts = (options.strings, options.strings // 10, options.strings // 10)
        parts = [joined(part, count, seed) for seed, (part, count) in enumerate(zip(parts, counts, strict=True))]
    frames = [[sounds.log_mel(clip.samples) for clip in part] for part in parts]
    scale = training.fit_scaler(np.concatenate(frames[0]))
    train, valid, test = (
        Heard([scale.transform(one) for one in some], [clip.label for clip in part])
        for some, part in zip(frames, parts, strict=True)
    )
    return Corpus(train, valid, test, scale)


def joined(clips: list[sounds.Clip], count: int, seed: int) -> list[sounds.Clip]:
    """Strings of one to LONGEST clips of one speaker, their names as the label."""
    draw = np.random.default_rng(seed)
    by_speaker: dict[str, list[sounds.Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    speakers = sorted(by_speaker)
    found = []
    for number in range(count):
        own = by_speaker[speakers[draw.integers(len(speakers))]]
        chosen = [own[place] for place in draw.integers(len(own), size=draw.integers(1, LONGEST + 1))]
        samples = np.concatenate([clip.samples for clip in chosen])
        label = " ".join(NAMES[int(clip.label)] for clip in chosen)
        found.append(sounds.Clip(label, chosen[0].speaker, number, samples))
    return found


def batches(heard: Heard, names: list[str], options: argparse.Namespace, seed: int = 0) -> training.Bucketed:
    """By length: of words with the number of each, of letters with the letters' numbers."""
    if options.task == "words":
        number = {name: place for place, name in enumerate(names)}
        labels = np.array([number[label] for label in heard.labels], np.int32)
        return training.Bucketed(heard.frames, labels, BATCH, buckets=options.buckets, multiple=10, seed=seed)
    letters = [np.array([LETTERS.index(letter) for letter in label], np.int32) for label in heard.labels]
    both = (heard.frames, letters)
    return training.Bucketed(both, None, BATCH, buckets=options.buckets, multiple=10, seed=seed)


def masked(key: jax.Array, frames: jax.Array) -> jax.Array:
    """A band of mel bins and a stretch of frames at 0, the mean, of each clip (Park et al. 2019, SpecAugment)."""
    keys = jax.random.split(key, 4)

    def band(keys: jax.Array, size: int, most: int) -> jax.Array:
        start = jax.random.randint(keys[0], frames.shape[1:2], 0, size)
        width = jax.random.randint(keys[1], frames.shape[1:2], 0, most)
        place = jnp.arange(size)[:, None]
        return (place >= start) & (place < start + width)

    bins = band(keys[:2], frames.shape[2], 10).T[None]
    steps = band(keys[2:], frames.shape[0], 10)[..., None]
    return jnp.where(bins | steps, 0, frames)


def make_loss(task: str, rate: float) -> Any:
    """Cross-entropy of the word, or CTC of the letters."""

    @training.stateless
    def words(params: Any, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        frames = batch.xs if key is None else masked(jax.random.fold_in(key, 1), batch.xs)
        logits = classifier.classify(params, frames, batch.lengths, key=key, dropout_rate=rate).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return jnp.mean(nats, where=batch.real), {
            "loss": metrics.mean(nats, batch.real),
            "accuracy": metrics.accuracy(logits, batch.labels, batch.real),
        }

    @training.stateless
    def letters(params: Any, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        (frames, said), (lengths, counts) = batch.xs, batch.lengths
        frames = frames if key is None else masked(jax.random.fold_in(key, 1), frames)
        logits, steps = ctc_recognizer.recognize(params, frames, lengths, key=key, dropout_rate=rate)
        nats = optax.ctc_loss(
            jnp.swapaxes(logits, 0, 1), padding(steps, len(logits)), said.T, padding(counts, len(said))
        )
        nats = nats / jnp.maximum(counts, 1)
        return jnp.mean(nats, where=batch.real), {"loss": metrics.mean(nats, batch.real)}

    return words if task == "words" else letters


def padding(lengths: jax.Array, steps: int) -> jax.Array:
    """``[B, T]``, 1 behind the length, as Optax wants it."""
    return 1.0 - lj.lengths_to_mask(lengths, steps).T.astype(jnp.float32)


def sizes(names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init``."""
    if options.task == "letters":
        return {"num_features": sounds.BINS, "num_labels": len(LETTERS), "hidden_size": options.hidden}
    return {
        "vocab_size": None,
        "num_classes": len(names),
        "embedding_size": sounds.BINS,
        "hidden_size": options.hidden,
        "num_layers": 2,
    }


def init_of(task: str) -> Any:
    """What draws the parameters."""
    return classifier.init_classifier if task == "words" else ctc_recognizer.init_ctc_recognizer


def train(corpus: Corpus, names: list[str], options: argparse.Namespace) -> training.FitResult:
    """The parameters that were best on the validation part."""
    keys = jax.random.split(jax.random.key(options.seed))
    data = batches(corpus.train, names, options, options.seed)
    return training.fit(
        make_loss(options.task, options.dropout),
        init_of(options.task)(keys[0], **sizes(names, options)),
        data,
        training.adam(LEARNING_RATE, weight_decay=1e-3),
        steps=options.steps or (options.epochs or EPOCHS[options.task]) * len(data),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(batches(corpus.valid, names, options), len(data)),
    )


@partial(jax.jit, static_argnames="beams")
def read_letters(params: Any, frames: jax.Array, length: jax.Array, beams: int) -> Any:
    """The best labelling of frames ``[T, F]``; 0 beams: greedily."""
    logits, length = ctc_recognizer.recognize(params, frames, length)
    if beams == 0:
        return decoding.ctc_greedy(logits, length)
    found = decoding.ctc_beam_search(logits, length, beam_size=beams, max_labels=32)
    return jax.tree.map(lambda leaf: leaf[0], found)


def hear(params: Any, frames: list[np.ndarray], names: list[str], task: str, beams: int = BEAMS) -> list[str]:
    """What is said in each of some clips."""
    if task == "words":
        run = jax.jit(classifier.classify)
    said = []
    for one in frames:
        steps = -(-len(one) // 50) * 50  # few programs
        xs, length = np.pad(one, ((0, steps - len(one)), (0, 0))), jnp.int32(len(one))
        if task == "words":
            said.append(names[int(jnp.argmax(run(params, xs, length).logits))])
        else:
            found = read_letters(params, xs, length, beams)
            said.append("".join(LETTERS[int(code)] for code in found.tokens[: int(found.length)]))
    return said


def report(params: Any, corpus: Corpus, names: list[str], options: argparse.Namespace) -> dict[str, float]:
    """Shares of the test part, printed."""
    test = corpus.test
    if options.task == "words":
        said = hear(params, test.frames, names, "words")
        right = float(np.mean([one == label for one, label in zip(said, test.labels, strict=True)]))
        print(f"{right:.1%} of {len(said)} words right")
        return {"word accuracy": right}
    found = {}
    for name, beams in (("greedy", 0), (f"{BEAMS} beams", BEAMS)):
        said = hear(params, test.frames, names, "letters", beams)
        found[f"character error, {name}"] = float(jiwer.cer(test.labels, said))
        found[f"word error, {name}"] = float(jiwer.wer(test.labels, said))
    print("  ".join(f"{name} {value:.2%}" for name, value in found.items()))
    for label, one in list(zip(test.labels, said, strict=True))[:5]:
        print(f"  said {label!r}, heard {one!r}")
    return found


def draw_clip(params: Any, frames: np.ndarray, label: str, names: list[str], task: str, path: Path) -> None:
    """A picture: a clip's frames, and what the model hears while it goes on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = len(frames) * sounds.HOP / sounds.RATE
    above.imshow(frames.T, origin="lower", aspect="auto", cmap="cividis", extent=(0, seconds, 0, sounds.BINS))
    above.set(ylabel="mel band", title=f"said: {label}")
    length = jnp.int32(len(frames))
    if task == "letters":
        logits, _ = ctc_recognizer.recognize(params, jnp.asarray(frames), length)
        chances, rows = (
            jax.nn.softmax(logits).T[1:],
            ["blank between" if not one.strip() else one for one in LETTERS[1:]],
        )
    else:
        chances, rows = classifier.classify(params, jnp.asarray(frames), length).weights[None], ["weight"]
    image = below.imshow(chances, aspect="auto", cmap="cividis", vmin=0, extent=(0, seconds, len(rows), 0))
    below.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize="small")
    below.set(xlabel="seconds", ylabel="letter" if task == "letters" else "")
    figure.colorbar(image, ax=below, label="probability" if task == "letters" else "share of units")
    figure.savefig(path, dpi=110)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder or .tar.gz file of clips (default: telephone tones)")
    parser.add_argument("--task", choices=("words", "letters"), default="words", help="(%(default)s)")
    parser.add_argument("--strings", type=results.whole, default=STRINGS, help="of clips to learn from (%(default)s)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units each way (%(default)s)")
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--epochs", type=results.whole, help=f"at most (default: {EPOCHS})")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: tell what is said in --listen")
    parser.add_argument("--listen", type=Path, action="append", default=[], help="a WAV file; may be given again")
    parser.add_argument("--picture", type=Path, default=Path("recognise_speech.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.listen and not options.load:
        parser.error("--listen: got no --load, want a folder that --save wrote")
    if options.load and not options.listen:
        parser.error("--load: got no --listen, want a WAV file")
    options.buckets = 1 if options.smoke else 4
    if options.smoke:
        options.steps, options.hidden, options.strings = 3, 16, 60
    return options


def listen(options: argparse.Namespace) -> None:
    """What is said in the files of --listen, by the model in --load."""
    notes = saved.read_notes(options.load, EXAMPLE)
    print(f"a model of {notes['task']}")
    params, _, _ = saved.load(options.load, EXAMPLE, init_of(notes["task"]))
    scale = training.Scaler(np.array(notes["mean"]), np.array(notes["deviation"]))
    for path in options.listen:
        if not path.is_file():
            raise SystemExit(f"--listen: {path} is not a file")
        frames = scale.transform(sounds.log_mel(sounds.read_wav(f"--listen: {path}", path.read_bytes())))
        print(f"{path}: {hear(params, [frames], notes['names'], notes['task'])[0]}")


def main(arguments: list[str] | None = None) -> float:
    """Trains, reports, draws; returns the share of words right, or the character error of the beams."""
    options = parse_options(arguments)
    if options.load:
        listen(options)
        return math.nan
    corpus = read_corpus(options)
    names = sorted(set(corpus.train.labels)) if options.task == "words" else []
    if unknown := sorted({*corpus.valid.labels, *corpus.test.labels} - set(names)) if names else []:
        raise SystemExit(f"--data: got labels {unknown} that no clip to learn from has")
    print(f"{len(corpus.train.labels):,} clips to learn from, {len(corpus.test.labels):,} to test on")
    began = time.monotonic()
    fitted = train(corpus, names, options)
    seconds = time.monotonic() - began
    if options.save:
        scale = {name: value.tolist() for name, value in corpus.scale._asdict().items()}
        notes = {"task": options.task, "names": names, **scale, "sizes": sizes(names, options)}
        saved.save(options.save, EXAMPLE, fitted.params, notes)
    found = report(fitted.params, corpus, names, options)
    test = corpus.test
    draw_clip(fitted.params, test.frames[0], test.labels[0], names, options.task, options.picture)
    labels = list(test.labels)
    usual = max(labels.count(label) for label in set(labels)) / len(labels)
    results.record(
        options,
        params=fitted.params,
        seconds=seconds,
        measured=found,
        naive={"the usual word": usual} if options.task == "words" else {"silence": 1.0},
    )
    return found["word accuracy" if options.task == "words" else f"character error, {BEAMS} beams"]


if __name__ == "__main__":
    main()
