"""PESQ of speech freed from noise: recorded prompts under white, pink and many-voiced noise.

The prompts are those of Debian's package asterisk-core-sounds-en-wav (Allison Smith, CC BY-SA 3.0,
8 kHz), which is fetched and unpacked, never committed:

    apt-get download asterisk-core-sounds-en-wav && dpkg -x asterisk-core-sounds-en-wav_*.deb DIR

A small recurrent network gives a mask for the magnitudes of a short-time Fourier transform; the
sound is made of masked magnitudes and the noisy phases. The ordinary loss is the mean absolute
difference of magnitudes; what counts is PESQ, narrow band, by the ITU's code.

Source: ITU-T P.862 (2001) and P.862.1 (2003), PESQ; Fu et al. 2019, MetricGAN (arXiv 1905.04874)
    for the mask's floor of 0.05 and for a learned metric of magnitudes; Taal et al. 2011, STOI.
"""

from __future__ import annotations

import hashlib
import wave
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from metric_loss_metrics import Pesq
from metric_loss_peers import Peer
from metric_loss_sounds import HOP, POWER, RATE, WINDOW, Wave, si_sdr, sounds, spectrum
from metric_loss_tasks import (
    SHARED_SOURCES,
    Batch,
    Places,
    Pretraining,
    Task,
    checkpoints,
    digest_of,
)
from torch import Tensor, nn

from tilth.errors import StorageError
from tilth.losses.surrogate_images import PicturePairs, image_channels
from tilth.losses.surrogate_inputs import Inputs
from tilth.seeding import generator

__all__ = ["bark_bands", "loudness", "speech_digest", "speech_task"]

FRAMES = 96
SAMPLES = HOP * (FRAMES - 1)
"""1.52 seconds."""
FLOOR = 0.05
LEVEL = 0.05
"""Root mean square of clean speech: 26 dB below full scale, as P.862 wants it."""
SNR_DB = (0.0, 10.0)
NOISES = ("white", "pink", "babble")
VOICES = 5
NUM_TEST = 100
BATCH_SIZE = 16
BANDS = 24
PRETRAINING = Pretraining(kept=(60, 120, 200, 300, 400, 500), learning_rate=2e-3)


def loudness(
    prediction: Float[Tensor, "n 1 f t"], target: Float[Tensor, "n 3 f t"]
) -> Float[Tensor, "n 3 b t"]:
    """Found and clean magnitudes in bands as the ear has them, and how far they are apart.

    Phases are left out: PESQ hears next to nothing of them.
    """
    bands = bark_bands().to(prediction.dtype)
    return image_channels(
        torch.einsum("bf,ncft->ncbt", bands, prediction),
        torch.einsum("bf,ncft->ncbt", bands, target[:, :1]),
    )


@lru_cache(maxsize=1)
def bark_bands() -> Float[Tensor, "b f"]:
    """Means over the frequencies of `BANDS` bands of equal width on Traunmueller's Bark scale."""
    hertz = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)
    bark = 26.81 * hertz / (1960 + hertz) - 0.53
    place = (bark - bark[0]) / (bark[-1] - bark[0]) * (BANDS - 1)
    share = (1 - (place - torch.arange(BANDS)[:, None]).abs()).clamp(min=0)
    return share / share.sum(dim=1, keepdim=True)


LOUDNESS = Inputs(
    name="loudness",
    says="magnitudes [n, 1, f, t]; clean ones with both phases [n, 3, f, t]",
    channels=loudness,
    network=lambda x, build: PicturePairs(x.shape[1], 2, build),
)


class Masking(nn.Module):
    """How much of each magnitude is speech, from `FLOOR` to 1."""

    def __init__(self, hidden_size: int = 64) -> None:
        super().__init__()
        bins = WINDOW // 2 + 1
        self.bands = nn.Linear(bins, hidden_size)
        self.around = nn.GRU(hidden_size, hidden_size, bidirectional=True, batch_first=True)
        self.mask = nn.Linear(2 * hidden_size, bins)

    def forward(self, noisy: Float[Tensor, "n 1 f t"]) -> Float[Tensor, "n 1 f t"]:
        """Of noisy magnitudes, raised to `POWER`."""
        logarithms = (noisy[:, 0].transpose(1, 2) + 0.05).log()
        frames, _ = self.around(self.bands(logarithms).relu())
        share = self.mask(frames).sigmoid()
        return (FLOOR + (1 - FLOOR) * share).transpose(1, 2)[:, None]


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Batches of speech under noise.

    Attributes:
        prompts: sounds of at least `SAMPLES` samples, to be freed from noise.
        voices: any sounds, of which many together are noise.
    """

    prompts: tuple[Wave, ...]
    voices: tuple[Wave, ...]
    seed: int

    def batch(self, step: int) -> Batch:
        """Drawn by the step."""
        return noisy_speech(
            self.prompts, self.voices, BATCH_SIZE, generator(self.seed, "speech", step)
        )


def noisy_speech(
    prompts: tuple[Wave, ...], voices: tuple[Wave, ...], count: int, draws: np.random.Generator
) -> Batch:
    """Magnitudes of noisy sounds, and clean magnitudes with both phases."""
    noisy, target = [], []
    for _ in range(count):
        clean = _spoken_part(prompts, draws)
        noise = _noise(voices, draws)
        level = LEVEL * 10 ** (-draws.uniform(*SNR_DB) / 20)
        with_noise = spectrum(clean + level * noise)
        without = spectrum(clean)
        noisy.append(np.abs(with_noise)[None] ** POWER)
        target.append(np.stack([np.abs(without) ** POWER, np.angle(without), np.angle(with_noise)]))
    return {
        "noisy": torch.from_numpy(np.stack(noisy).astype(np.float32)),
        "target": torch.from_numpy(np.stack(target).astype(np.float32)),
    }


def _spoken_part(prompts: tuple[Wave, ...], draws: np.random.Generator) -> Wave:
    """A crop in which somebody speaks at least half of the time, at `LEVEL`."""
    while True:
        prompt = prompts[draws.integers(len(prompts))]
        start = int(draws.integers(len(prompt) - SAMPLES + 1))
        part = prompt[start : start + SAMPLES]
        if _spoken_share(part) >= 0.5:
            return part * np.float32(LEVEL / np.sqrt(np.mean(part**2)))


def _spoken_share(sound: Wave) -> float:
    """Of frames no more than 35 dB below the loudest."""
    energy = (sound[: SAMPLES // HOP * HOP].reshape(-1, HOP) ** 2).mean(axis=1)
    return float((energy > energy.max() * 10**-3.5).mean()) if energy.max() > 0 else 0.0


def _noise(voices: tuple[Wave, ...], draws: np.random.Generator) -> Wave:
    """White or pink noise, or some voices at once, with a root mean square of 1."""
    kind = NOISES[draws.integers(len(NOISES))]
    if kind == "babble":
        chosen = [voices[k] for k in draws.integers(len(voices), size=VOICES)]
        noise = sum(np.resize(np.roll(v, -draws.integers(len(v))), SAMPLES) for v in chosen)
    else:
        noise = draws.standard_normal(SAMPLES)
    if kind == "pink":  # power falls as one over frequency
        spectra = np.fft.rfft(noise)
        noise = np.fft.irfft(spectra / np.sqrt(np.arange(len(spectra)).clip(min=1)), n=SAMPLES)
    noise = np.asarray(noise, np.float32)
    return noise / np.sqrt(np.mean(noise**2) + 1e-12)


def speech_task(places: Places) -> Task:
    """Speech freed from noise, by PESQ.

    Raises:
        StorageError: there are no prompts, or no Python with pesq.
    """
    metric = Pesq(peers=Peer.python(places.peers))
    speech = _present(places.speech)
    return Task(
        name="pesq",
        title="PESQ of speech under noise",
        definition="prompts of one speaker, 8 kHz, under white, pink or many-voiced noise at "
        f"{SNR_DB[0]:.0f} to {SNR_DB[1]:.0f} dB; PESQ, narrow band (MOS-LQO); {NUM_TEST} test "
        f"crops of {SAMPLES / RATE:.2f} s from prompts not trained on",
        unit="MOS",
        train_batches=partial(_train_batches, speech),
        checkpoints=partial(_checkpoints, places, speech),
        outputs=_outputs,
        proxy=_magnitude_difference,
        metric=metric,
        goal="higher",
        limits=(1.0, 4.6),
        inputs=LOUDNESS,
        evaluate=partial(_evaluate, speech, metric),
        digest=_digest(),
        steps=240,
        learning_rate=5e-4,
        batch_size=BATCH_SIZE,
    )


def speech_digest(folder: Path) -> str:
    """Of the bytes of all prompts."""
    return digest_of(sorted(_present(folder).rglob("*.wav")))


def _present(folder: Path | None) -> Path:
    if folder is None or next(folder.rglob("*.wav"), None) is None:
        raise StorageError(
            "there are no recorded prompts",
            where=str(folder),
            expected="WAV files of 8 kHz",
            fix="unpack Debian's asterisk-core-sounds-en-wav (see the top of "
            "benchmarks/metric_loss_speech.py) and name the folder by --speech",
        )
    return folder


@lru_cache(maxsize=1)
def _sounds(folder: Path) -> tuple[tuple[Wave, ...], tuple[Wave, ...]]:
    """The prompts to train on and, of every fifth, those to test on; each recording once."""
    found = {}
    for file in sorted(folder.rglob("*.wav")):
        with wave.open(str(file)) as sound:
            data = sound.readframes(sound.getnframes())
            if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, 2):
                found[hashlib.sha256(data).hexdigest()] = data
    waves = [np.frombuffer(found[key], "<i2").astype(np.float32) / 32768 for key in sorted(found)]
    spoken = [sound for sound in waves if np.sqrt(np.mean(sound**2)) > 0.003]
    test = [sound for number, sound in enumerate(spoken) if number % 5 == 0]
    return tuple(s for number, s in enumerate(spoken) if number % 5), tuple(test)


def _long(sounds: tuple[Wave, ...]) -> tuple[Wave, ...]:
    return tuple(sound for sound in sounds if len(sound) >= SAMPLES)


def _train_batches(folder: Path, seed: int) -> Prompts:
    train, _ = _sounds(folder)
    return Prompts(prompts=_long(train), voices=train, seed=seed)


@lru_cache(maxsize=1)
def _test(folder: Path) -> Batch:
    _, test = _sounds(folder)
    return noisy_speech(_long(test), test, NUM_TEST, generator(0, "speech test"))


def _digest() -> str:
    return digest_of([Path(__file__), *SHARED_SOURCES], PRETRAINING)


def _checkpoints(places: Places, speech: Path, seed: int) -> list[nn.Module]:
    return checkpoints(
        "pesq",
        Masking,
        _train_batches(speech, seed),
        _magnitude_difference,
        PRETRAINING,
        seed=seed,
        work=places.work,
        digest=_digest(),
    )


def _outputs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    return batch["noisy"] * model(batch["noisy"]) ** POWER, batch["target"]


def _magnitude_difference(model: nn.Module, batch: Batch) -> Tensor:
    """Mean absolute difference of magnitudes, as they are."""
    found = batch["noisy"] ** (1 / POWER) * model(batch["noisy"])
    return nn.functional.l1_loss(found, batch["target"][:, :1] ** (1 / POWER))


def _evaluate(folder: Path, metric: Pesq, model: nn.Module) -> dict[str, float]:
    batch = _test(folder)
    model.eval()
    with torch.no_grad():
        found, target = (part.numpy() for part in _outputs(model, batch))
        proxy = float(_magnitude_difference(model, batch))
    peer = Peer.of(metric.peers)
    heard = [sounds(*pair) for pair in zip(found, target, strict=True)]
    return {
        "pesq": float(np.mean([metric(*pair) for pair in zip(found, target, strict=True)])),
        "stoi": float(np.mean([peer.ask("stoi", *pair) for pair in heard])),
        "si_sdr_db": float(np.mean([si_sdr(*pair) for pair in heard])),
        "magnitude_l1": proxy,
    }
