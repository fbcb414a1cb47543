"""Reads and writes WAV files, and converts between samples and log-mel frames.

Readers end the program with a message that names option and file where a file cannot be used.
"""

import io
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import signal

SAMPLE_RATE = 8000
"""samples per second"""
FRAME_LENGTH = 256
"""samples per frame: 32 ms"""
HOP_LENGTH = 80
"""samples between the starts of successive frames: 10 ms"""
NUM_MELS = 40
"""mel bands per frame"""
MIN_MAGNITUDE = 1e-5


class Clip(NamedTuple):
    """A recording of N samples."""

    label: str
    """the spoken word or words"""
    speaker: str
    number: int
    """index among the recordings of this word by this speaker"""
    samples: np.ndarray
    """``[N]``, from -1 to 1"""


def read_clips(option: str, path: Path | None) -> list[Clip]:
    """Reads recordings named LABEL_SPEAKER_NUMBER.wav, in the order of their names.

    Args:
        option: the command-line option that error messages name.
        path: a folder or .tar.gz file; None makes synthetic clips.
    """
    if path is None:
        return synthetic_clips(900, 0)
    clips = []
    for name, data in read_files(option, path, ".wav"):
        parts = Path(name).stem.split("_")
        if len(parts) != 3 or not parts[2].isdigit():
            raise SystemExit(
                f"{option}: {path}: got {name}, want names such as 7_jackson_32.wav: label, speaker, number"
            )
        clips.append(Clip(parts[0], parts[1], int(parts[2]), read_wav(f"{option}: {path}: {name}", data)))
    if not clips:
        raise SystemExit(f"{option}: {path} has no .wav file")
    return clips


def read_files(option: str, path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a folder or .tar.gz file in the order of their names.

    Args:
        option: the command-line option that error messages name.
        path: the folder or .tar.gz file.
        suffix: the end of the names of the files to read.
    Yields:
        (name, content).
    """
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.glob(f"*{suffix}")))
        return
    try:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                if member.name.endswith(suffix) and (file := archive.extractfile(member)):
                    yield member.name, file.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise SystemExit(f"{option}: {path} is neither a folder nor a .tar.gz file that can be read: {error}") from None


def read_wav(name: str, data: bytes) -> np.ndarray:
    """Decodes a WAV file of one channel, 16 bits and 8 kHz.

    Args:
        name: describes the file in error messages.
        data: the content of the file.
    Returns:
        Samples ``[N]`` from -1 to 1.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, bits, rate = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise SystemExit(f"{name} is no WAV file that can be read: {error}") from None
    if (channels, bits, rate) != (1, 16, SAMPLE_RATE):
        raise SystemExit(
            f"{name}: got {channels} channels of {bits} bits at {rate} Hz, want 1 of 16 bits at {SAMPLE_RATE} Hz; "
            "convert it, for example: sox in.wav -c 1 -b 16 -r 8000 out.wav"
        )
    if not frames:
        raise SystemExit(f"{name} has no samples")
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768


def read_wav_file(option: str, path: Path) -> np.ndarray:
    """Reads a WAV file with ``read_wav``; error messages name the command-line option."""
    if not path.is_file():
        raise SystemExit(f"{option}: {path} is not a file")
    return read_wav(f"{option}: {path}", path.read_bytes())


def write_wav(path: str | Path, samples: np.ndarray) -> None:
    """Writes samples ``[N]`` from -1 to 1 as a WAV file of 16 bits at 8 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def mel_filterbank() -> np.ndarray:
    """Returns triangular filters ``[FRAME_LENGTH / 2 + 1, NUM_MELS]``, evenly spaced in 2595 log10(1 + f / 700) mel."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 1400), NUM_MELS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(FRAME_LENGTH, 1 / SAMPLE_RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def stft(samples: np.ndarray) -> np.ndarray:
    """Returns the complex short-time Fourier transform of samples, ``[T, FRAME_LENGTH / 2 + 1]``."""
    overlap = FRAME_LENGTH - HOP_LENGTH
    _, _, spectrum = signal.stft(
        samples, SAMPLE_RATE, nperseg=FRAME_LENGTH, noverlap=overlap, boundary="zeros", padded=True
    )
    return spectrum.T


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Returns the natural logarithm of the mel energies of samples, ``[T, NUM_MELS]``."""
    return np.log(np.abs(stft(samples)) ** 2 @ mel_filterbank() + MIN_MAGNITUDE**2).astype(np.float32)


def griffin_lim(frames: np.ndarray, num_iterations: int = 60) -> np.ndarray:
    """Inverts log-mel frames to samples: magnitudes by least squares, phases by Griffin and Lim 1984.

    Args:
        frames: log-mel frames, ``[T, NUM_MELS]``.
        num_iterations: iterations of the phases.
    Returns:
        Samples ``[N]``.
    """
    power = np.maximum(np.exp(frames) @ np.linalg.pinv(mel_filterbank()), MIN_MAGNITUDE**2)
    magnitude, overlap = np.sqrt(power).T, FRAME_LENGTH - HOP_LENGTH
    phase = np.exp(2j * np.pi * np.random.default_rng(0).random(magnitude.shape))
    for _ in range(num_iterations):
        _, samples = signal.istft(magnitude * phase, SAMPLE_RATE, nperseg=FRAME_LENGTH, noverlap=overlap)
        spectrum = stft(samples).T[:, : magnitude.shape[1]]
        spectrum = np.pad(spectrum, ((0, 0), (0, magnitude.shape[1] - spectrum.shape[1])))
        phase = np.exp(1j * np.angle(spectrum))
    _, samples = signal.istft(magnitude * phase, SAMPLE_RATE, nperseg=FRAME_LENGTH, noverlap=overlap)
    return samples.astype(np.float32)


DTMF_FREQUENCIES = {
    key: (low, high)
    for key, low, high in zip(
        "1234567890", (697,) * 3 + (770,) * 3 + (852,) * 3 + (941,), (1209, 1336, 1477) * 3 + (1336,), strict=True
    )
}
"""low and high tone of each telephone key in Hz"""


def synthetic_clips(count: int, seed: int) -> list[Clip]:
    """Makes clips of telephone keys: two tones of random duration, with noise.

    Args:
        count: number of clips.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        label = str(rng.integers(10))
        time = np.arange(int(SAMPLE_RATE * rng.uniform(0.15, 0.4))) / SAMPLE_RATE
        tones = sum(np.sin(2 * np.pi * frequency * time + rng.uniform(0, 6)) for frequency in DTMF_FREQUENCIES[label])
        samples = 0.2 * tones + rng.normal(scale=0.1, size=len(time))
        clips.append(Clip(label, f"phone{number % 3}", number % 50, samples.astype(np.float32)))
    return clips
