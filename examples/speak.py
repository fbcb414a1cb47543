"""Synthesizes speech: predicts the log-mel frames of a word one after another and writes a WAV file.

    python examples/speak.py                                                     # telephone tones
    python examples/speak.py --data recordings.tar.gz --recognizer runs/words    # digits, scored by recognize_speech.py
    python examples/speak.py --data recordings.tar.gz --load runs/speak --say 7

Clips are as for recognize_speech.py. An LSTM reads the previous frame, with dropout against copying (Tacotron, Wang et
al. 2017), the word, the speaker and the time, and predicts the next log-mel frame and whether it is the last; phases
come from Griffin and Lim 1984. The recognizer is a model that recognize_speech.py --save wrote, or is trained here for
a minute. Expect it to recognize all of 180 synthetic digits after 19 minutes.

The model that --save keeps, from Python in the folder examples:

    import speak
    model = speak.load("runs/speak")
    speak.write_wav("seven.wav", speak.speak(model, "7"))
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recognize_speech
from common import results, saved, sounds, speech
from common.options import Count, OutputPath, Positive, new_parser, parse
from common.sounds import write_wav
from common.synthesizer import SynthesizerParams, Voices, generate_frames, init_synthesizer, predict_frames
from common.voices import VoiceCorpus, read_voices

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics


class Settings(NamedTuple):
    """Settings of the model, its training and the sound; --set NAME=VALUE changes one."""

    hidden: Count = 256
    learning_rate: Positive = 2e-3
    batch_size: Count = 32
    buckets: Count = 4  # lengths to which clips are padded
    epochs: Count = 60
    steps: Count | None = None  # in place of epochs
    minutes: Positive | None = None
    recordings: Count = 3  # clips to score of each word by each speaker
    sound: OutputPath = Path("speak.wav")


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder or .tar.gz file of clips (default: telephone tones)")
    parser.add_argument("--recognizer", type=Path, help="a folder that recognize_speech.py --save wrote")
    parser.add_argument("--say", help="word of the sound file (default: the first)")
    parser.add_argument("--speaker", help="who says it (default: the first)")
    smoke = {"steps": 3, "hidden": 16, "buckets": 1, "recordings": 1}
    return parse(parser, arguments, __file__, Settings, smoke=smoke)


@training.stateless
def loss_fn(params: SynthesizerParams, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Computes the absolute plus squared error of each next frame, plus the cross-entropy of its being the last."""
    frames, lengths = batch.xs, batch.lengths
    previous = jnp.concatenate([jnp.zeros_like(frames[:1]), frames[:-1]])
    key = jax.random.key(0) if key is None else key  # the model is never without dropout
    _, predicted, logits = predict_frames(params, None, previous, batch.labels, 0, key)
    mask = lj.lengths_to_mask(lengths, len(frames)) & batch.row_mask[None]
    error = predicted - frames
    frame_loss = (jnp.abs(error) + error**2).mean(axis=-1)
    is_last = (jnp.arange(len(frames))[:, None] == lengths[None] - 1).astype(jnp.float32)
    loss = frame_loss + optax.sigmoid_binary_cross_entropy(logits, is_last)
    return jnp.mean(loss, where=mask), {"loss": metrics.mean(loss, mask), "frame": metrics.mean(frame_loss, mask)}


def train(corpus: VoiceCorpus, options: argparse.Namespace) -> saved.Model:
    """Trains and returns the last parameters, since the validation error of frames does not measure how they sound."""
    sizes = {"words": len(corpus.words), "speakers": len(corpus.speakers), "hidden": options.hidden}
    keys = jax.random.split(jax.random.key(options.seed))
    result = training.fit(
        loss_fn,
        init_synthesizer(keys[0], **sizes),
        corpus.train,
        training.adam(options.learning_rate),
        steps=options.steps or options.epochs * len(corpus.train),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(corpus.valid, len(corpus.train)),
    )
    notes = {"words": corpus.words, "speakers": corpus.speakers, "scaler": [part.tolist() for part in corpus.scaler]}
    return saved.Model(result.state.params, {"sizes": sizes, **notes})


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    return saved.load(folder, "speak", init_synthesizer)


def synthesize(model: saved.Model, voices: Voices, seed: int) -> list[np.ndarray]:
    """Generates a clip for each word and speaker of ``voices``; returns the samples ``[N]`` of each."""
    scaler = training.Scaler(*np.array(model.notes["scaler"], np.float32))
    frames, lengths = generate_frames(model.params, voices, jax.random.key(seed))
    clips = (np.asarray(frames[: int(length), row]) for row, length in enumerate(lengths))
    return [sounds.griffin_lim(scaler.inverse(clip)) for clip in clips]


def speak(model: saved.Model, word: str, speaker: str | None = None, seed: int = 0) -> np.ndarray:
    """Returns the samples ``[N]`` at 8 kHz of a word by a speaker, by default the first."""
    indices = model.notes["words"].index(word), model.notes["speakers"].index(speaker) if speaker else 0
    voices = Voices(*(jnp.array([index]) for index in indices))
    return synthesize(model, voices, seed)[0]


def recognize(clips: list[np.ndarray], options: argparse.Namespace) -> list[str]:
    """Returns the word in each clip, by the model in --recognizer or by a model that is trained here."""
    if options.recognizer:
        return recognize_speech.recognize(recognize_speech.load(options.recognizer), clips)
    settings = recognize_speech.parse_options(["--smoke"] if options.smoke else ["--set", "epochs=10"])
    model = recognize_speech.train(speech.read_corpus(options.data), settings)
    return recognize_speech.recognize(model, clips)


def main(arguments: list[str] | None = None) -> float:
    """Trains, synthesizes and recognizes every word by every speaker; returns the recognizer's accuracy."""
    options = parse_options(arguments)
    corpus = read_voices(options.data, options.batch_size, options.buckets, options.seed)
    sound_row = corpus.find(options.say, options.speaker)
    with results.Timer() as timer:
        model = load(options.load) if options.load else train(corpus, options)
    saved.save(options.save, options.example, model)
    voices = corpus.all_voices(options.recordings)
    clips, words = synthesize(model, voices, options.seed), [corpus.words[number] for number in voices.word]
    recognized = recognize(clips, options)
    accuracy = float(np.mean(np.array(words) == np.array(recognized)))
    print(f"\n{accuracy:.1%} of {len(words)} synthetic clips are recognized as the word meant")
    shown = [row for row, speaker in enumerate(voices.speaker) if speaker == 0][: min(10, len(corpus.words))]
    titles = [f"{words[row]}, recognized {recognized[row]}" for row in shown]
    speech.plot_spectrograms([clips[row] for row in shown], titles, options.picture)
    write_wav(options.sound, clips[sound_row])
    print(f"{words[sound_row]!r} by {corpus.speakers[voices.speaker[sound_row]]}: {options.sound}")
    scores, chance = {"heard rightly": accuracy}, {"chance": 1 / len(corpus.words)}
    results.record(options, params=model.params, seconds=timer.seconds, measured=scores, naive=chance)
    return accuracy


if __name__ == "__main__":
    main()
