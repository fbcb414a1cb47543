"""Recognizes speech: whole words, or strings of words letter by letter.

    python examples/recognize_speech.py                                              # telephone tones with noise
    python examples/recognize_speech.py --data recordings.tar.gz                     # spoken digits, one word a clip
    python examples/recognize_speech.py --data recordings.tar.gz --task letters      # strings of up to four, by CTC
    python examples/recognize_speech.py --load runs/words --wav clip.wav

--data is a folder or a .tar.gz file of WAV files, 8 kHz, 16 bits, one channel, named LABEL_SPEAKER_NUMBER.wav; numbers
below 5 are the test part, as in the README of Jakobovski/free-spoken-digit-dataset, and numbers 5 to 9 the validation
part. Letters: recordings of one speaker are joined at random, without alignment. Expect 99.3 % of words right (97.3 %
is reported for a bidirectional LSTM on another split), and 1.8 % of letters wrong, after 7 and 9 minutes.

The model that --save keeps, from Python in the folder examples:

    import recognize_speech
    model = recognize_speech.load("runs/words")
    print(recognize_speech.recognize(model, [[0.0] * 8000]))  # clips of samples at 8 kHz, here a second of silence
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved, sounds, speech
from common.options import Count, Positive, Rate, new_parser, parse
from common.speech import LETTERS, usual_share
from common.transcription import BEAM_SIZE, plot_clip, score, transcribe

from lstm_jax import training
from lstm_jax.models import classifier, ctc_recognizer
from lstm_jax.training import metrics

EPOCHS = {"words": 30, "letters": 12}
INIT: dict[str, Any] = {"words": classifier.init_classifier, "letters": ctc_recognizer.init_ctc_recognizer}


class Settings(NamedTuple):
    """Settings of the data, the model and its training; --set NAME=VALUE changes one."""

    strings: Count = 4000  # joined clips of the training part, for letters
    hidden: Count = 128
    dropout: Rate = 0.3
    learning_rate: Positive = 2e-3
    weight_decay: float = 1e-3
    batch_size: Count = 32
    buckets: Count = 4  # lengths to which clips are padded
    epochs: Count | None = None  # None means 30 for words, 12 for letters
    steps: Count | None = None  # in place of epochs
    minutes: Positive | None = None


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder or .tar.gz file of clips (default: telephone tones)")
    parser.add_argument("--task", choices=tuple(EPOCHS), default="words", help="(%(default)s)")
    parser.add_argument("--wav", type=Path, nargs="+", default=[], help="files to recognize by the model in --load")
    smoke = {"steps": 3, "hidden": 16, "strings": 60, "buckets": 1}
    return parse(parser, arguments, __file__, Settings, smoke=smoke)


def word_loss(params: Any, batch: training.RaggedBatch, key: Any, *, rate: float) -> tuple:
    """Computes the cross-entropy of the word and its metrics; a key enables masking and dropout."""
    frames = batch.xs if key is None else speech.mask_frames(jax.random.fold_in(key, 1), batch.xs)
    logits = classifier.classify(params, frames, batch.lengths, key=key, dropout_rate=rate).logits
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    accuracy = metrics.accuracy(logits, batch.labels, batch.row_mask)
    return jnp.mean(nats, where=batch.row_mask), {"loss": metrics.mean(nats, batch.row_mask), "accuracy": accuracy}


def letter_loss(params: Any, batch: training.RaggedBatch, key: Any, *, rate: float) -> tuple:
    """Computes the CTC loss per letter and its metrics; a key enables masking and dropout."""
    (frames, letters), (lengths, counts) = batch.xs, batch.lengths
    frames = frames if key is None else speech.mask_frames(jax.random.fold_in(key, 1), frames)
    logits, lengths = ctc_recognizer.recognize(params, frames, lengths, key=key, dropout_rate=rate)
    paddings = speech.ctc_padding(lengths, len(logits)), speech.ctc_padding(counts, len(letters))
    nats = optax.ctc_loss(jnp.swapaxes(logits, 0, 1), paddings[0], letters.T, paddings[1]) / jnp.maximum(counts, 1)
    return jnp.mean(nats, where=batch.row_mask), {"loss": metrics.mean(nats, batch.row_mask)}


LOSSES = {"words": word_loss, "letters": letter_loss}


def train(corpus: speech.Corpus, options: argparse.Namespace) -> saved.Model:
    """Trains and returns the best model on the validation part."""
    words = corpus.words() if options.task == "words" else []
    sizes: dict[str, Any] = {"num_features": sounds.NUM_MELS, "num_labels": len(LETTERS)}
    if words:
        sizes = {"vocab_size": None, "num_classes": len(words), "embedding_size": sounds.NUM_MELS, "num_layers": 2}
    sizes["hidden_size"] = options.hidden
    keys = jax.random.split(jax.random.key(options.seed))
    make_batches = partial(speech.make_batches, words=words, batch_size=options.batch_size, buckets=options.buckets)
    batches = make_batches(corpus.train, seed=options.seed)
    result = training.fit(
        training.stateless(partial(LOSSES[options.task], rate=options.dropout)),
        INIT[options.task](keys[0], **sizes),
        batches,
        training.adam(options.learning_rate, weight_decay=options.weight_decay),
        steps=options.steps or (options.epochs or EPOCHS[options.task]) * len(batches),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(make_batches(corpus.valid), len(batches)),
    )
    scaler = [array.tolist() for array in corpus.scaler]
    return saved.Model(result.params, {"sizes": sizes, "task": options.task, "words": words, "scaler": scaler})


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    task = saved.read_notes(Path(folder), "recognize_speech")["task"]
    return saved.load(folder, "recognize_speech", INIT[task])


def recognize(model: saved.Model, clips: Any) -> list[str]:
    """Returns the word or letters of each clip of samples ``[N]`` from -1 to 1 at 8 kHz."""
    scaler = training.Scaler(*np.array(model.notes["scaler"], np.float32))
    frames = [scaler.transform(sounds.log_mel(np.asarray(samples, np.float32))) for samples in clips]
    return transcribe(model, frames)


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests and plots; returns the word accuracy, or the character error of beam search."""
    options = parse_options(arguments)
    if options.wav and not options.load:
        raise SystemExit("--wav: got no --load, want a folder that --save wrote")
    if options.wav:
        texts = recognize(load(options.load), [sounds.read_wav_file("--wav", path) for path in options.wav])
        print(*(f"{path}: {text}" for path, text in zip(options.wav, texts, strict=True)), sep="\n")
        return float("nan")
    corpus = speech.read_corpus(options.data, options.strings if options.task == "letters" else None)
    print(f"{len(corpus.train.labels):,} training clips, {len(corpus.test.labels):,} test clips")
    with results.Timer() as timer:
        model = load(options.load) if options.load else train(corpus, options)
    if model.notes["task"] != options.task:
        raise SystemExit(f"--task: got {options.task}, want {model.notes['task']}, as in --load")
    saved.save(options.save, options.example, model)
    scores = score(model, corpus.test)
    plot_clip(model, corpus.test.frames[0], corpus.test.labels[0], options.picture)
    naive = {"the usual word": usual_share(corpus.test.labels)} if options.task == "words" else {"silence": 1.0}
    results.record(options, params=model.params, seconds=timer.seconds, measured=scores, naive=naive)
    return scores["word accuracy" if options.task == "words" else f"character error, {BEAM_SIZE} beams"]


if __name__ == "__main__":
    main()
