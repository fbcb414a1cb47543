"""Reads clips of words by several speakers and batches them for speech synthesis."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import sounds
from common.synthesizer import MAX_FRAMES, Voices
from lstm_jax import training

FIRST_TRAIN_NUMBER = 5
"""clips with a lower number are the validation part"""


class VoiceCorpus(NamedTuple):
    """Batches of scaled frames with ``Voices`` as labels, and the names of words and speakers."""

    train: training.Bucketed
    valid: training.Bucketed
    words: list[str]
    """words by index"""
    speakers: list[str]
    """speakers by index"""
    scaler: training.Scaler

    def all_voices(self, repetitions: int) -> Voices:
        """Returns each pair of a word and a speaker ``repetitions`` times, ordered by word, then by speaker."""
        pairs = [(word, speaker) for word in range(len(self.words)) for speaker in range(len(self.speakers))]
        return Voices(*(np.array(column * repetitions, np.int32) for column in zip(*pairs, strict=True)))

    def find(self, word: str | None, speaker: str | None) -> int:
        """Returns the index of a word by a speaker in ``all_voices``.

        Args:
            word: the word; None means the first.
            speaker: the speaker; None means the first.
        Raises:
            SystemExit: the corpus lacks the word or the speaker.
        """
        for option, name, names in (("--say", word, self.words), ("--speaker", speaker, self.speakers)):
            if name is not None and name not in names:
                raise SystemExit(f"{option}: got {name!r}, want one of {names}")
        word_index = 0 if word is None else self.words.index(word)
        return word_index * len(self.speakers) + (0 if speaker is None else self.speakers.index(speaker))


def read_voices(path: Path | None, batch_size: int, buckets: int, seed: int) -> VoiceCorpus:
    """Reads clips and batches the first MAX_FRAMES scaled log-mel frames of each.

    Args:
        path: a folder or .tar.gz file of clips; None makes telephone tones.
        batch_size: clips per batch.
        buckets: number of lengths to which clips are padded.
        seed: seed of the order of the batches.
    Returns:
        The corpus.
    """
    clips = sounds.read_clips("--data", path)
    words, speakers = (sorted({getattr(clip, name) for clip in clips}) for name in ("label", "speaker"))
    frames = [sounds.log_mel(clip.samples)[:MAX_FRAMES] for clip in clips]
    is_train = [clip.number >= FIRST_TRAIN_NUMBER for clip in clips]
    scaler = training.fit_scaler(np.concatenate([clip for clip, use in zip(frames, is_train, strict=True) if use]))

    def make_batches(in_train: bool) -> training.Bucketed:
        """Batches the clips of one part."""
        rows = [row for row, use in enumerate(is_train) if use == in_train]
        if not rows:
            raise SystemExit("--data: want clips with numbers below 5 and from 5 on")
        voices = Voices(
            np.array([words.index(clips[row].label) for row in rows], np.int32),
            np.array([speakers.index(clips[row].speaker) for row in rows], np.int32),
        )
        sequences = [scaler.transform(frames[row]) for row in rows]
        return training.Bucketed(sequences, voices, batch_size, buckets=buckets, multiple=10, seed=seed)

    return VoiceCorpus(make_batches(True), make_batches(False), words, speakers, scaler)
