"""The embedded data set: made-up wearers of three accelerometers, different enough to be hard.

A model for tests, for the first run and for telling methods apart, not for conclusions about
people. Every sample is

    attenuated body motion + gravity, both turned into the sensor's frame, + noise

in m/s². Gravity follows the posture of the body part (a thigh is level when its owner sits) and the
way in which the wearer has put the sensor on, which differs by subject and is the reason why unseen
subjects are harder. Gait is a sum of harmonics of the step rate with the wearer's own cadence,
strength and phases; the thigh and the wrist also swing at the stride rate, half of it. Going
upstairs and downstairs are walking with shifted rates and weights, by less than wearers differ.
From one activity to the next the motion fades over about a second, and the label changes half-way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smoothdistill.windows import Recording
from smoothdistill.windows.checks import checked_count

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = [
    "ACTIVITIES",
    "CHANNELS",
    "DEFAULT_STEP_SAMPLES",
    "DEFAULT_WINDOW_SAMPLES",
    "PLACEMENTS",
    "SAMPLE_RATE_HZ",
    "synthetic_recordings",
]

ACTIVITIES = ("walk", "upstairs", "downstairs", "jog", "cycle", "sit", "stand", "lie")
PLACEMENTS = ("wrist", "thigh", "chest")
CHANNELS = ("x", "y", "z")
SAMPLE_RATE_HZ = 50.0
DEFAULT_WINDOW_SAMPLES = 100
DEFAULT_STEP_SAMPLES = 60

_GRAVITY_M_S2 = 9.80665
_TRANSITION_SECONDS = 1.0

# Steps (or pedal strokes) per second, and how hard the body bounces, in m/s². Wearers differ by 6 %
# in the one and 16 % in the other, which covers what tells stairs from level ground.
_STEP_RATE_HZ = {"walk": 1.85, "upstairs": 1.6, "downstairs": 2.05, "jog": 2.6, "cycle": 1.4}
_BOUNCE_M_S2 = {"walk": 2.2, "upstairs": 1.6, "downstairs": 3.2, "jog": 6.5, "cycle": 1.6}
# Weights of the first four harmonics of the step rate.
_HARMONICS = {
    "walk": (1.0, 0.45, 0.25, 0.10),
    "upstairs": (1.0, 0.30, 0.15, 0.05),
    "downstairs": (1.0, 0.60, 0.40, 0.25),
    "jog": (1.0, 0.50, 0.20, 0.10),
    "cycle": (1.0, 0.20, 0.05, 0.02),
}
# Share of the bounce along the body part's up, forward and side axes.
_DIRECTIONS = {"wrist": (0.6, 0.5, 0.4), "thigh": (0.9, 0.8, 0.3), "chest": (0.8, 0.35, 0.25)}
# Swing of the part about its side axis at the stride rate, in radians.
_SWING_RADIANS = {
    "wrist": {"walk": 0.35, "upstairs": 0.20, "downstairs": 0.25, "jog": 0.40, "cycle": 0.03},
    "thigh": {"walk": 0.35, "upstairs": 0.50, "downstairs": 0.30, "jog": 0.50, "cycle": 0.45},
    "chest": {"walk": 0.04, "upstairs": 0.06, "downstairs": 0.05, "jog": 0.07, "cycle": 0.05},
}
# Lean of the part about its side axis: 0 hangs upright, pi / 2 is level.
_LEAN_RADIANS = {
    "wrist": {"jog": 1.2, "cycle": 0.9, "sit": 1.0, "lie": 1.5},
    "thigh": {"cycle": 0.9, "sit": 1.45, "lie": 1.55},
    "chest": {"upstairs": 0.2, "cycle": 0.5, "sit": -0.3, "lie": 1.5},
}
# Lying turns every part about its own length as well.
_ROLL_RADIANS = {"lie": 0.7}
# How the part is worn, as (turn about the up axis, turn about the side axis), in radians.
_MOUNTS = {"wrist": (0.0, 0.3), "thigh": (1.2, -0.2), "chest": (-0.8, 0.1)}


def synthetic_recordings(
    *,
    num_subjects: int = 20,
    num_rounds: int = 1,
    bout_seconds: float = 6.0,
    subject_variation: float = 1.0,
    noise_m_s2: float = 0.3,
    seed: int = 0,
) -> list[Recording]:
    """Recordings of made-up wearers: one for each subject and placement, three at the same time.

    Every subject does all activities in a random order, `num_rounds` times. A subject's recordings
    depend on the seed and the subject's number only, so a larger set contains a smaller one.

    Args:
        num_subjects: Number of wearers, at least 1.
        num_rounds: How often each wearer goes through all activities, at least 1.
        bout_seconds: Mean length of a bout of one activity, in seconds, above 2. A bout lasts
            0.7 to 1.3 of it.
        subject_variation: How much wearers differ in gait and in the way they put the sensors on:
            0 makes them alike, 1 is the default difficulty.
        noise_m_s2: Standard deviation of the sensor's noise, in m/s², at least 0.
        seed: At least 0; the same seed gives the same recordings.

    Returns:
        Recordings in m/s² with the tasks "activity" (`ACTIVITIES`) and "placement" (`PLACEMENTS`),
        subjects "s01", "s02", ... and the placement as session.

    Raises:
        TypeError: If a count is no integer.
        ValueError: If an argument breaks its rule.
    """
    num_subjects = checked_count("num_subjects", num_subjects)
    num_rounds = checked_count("num_rounds", num_rounds)
    for name, value, smallest in (
        ("bout_seconds", bout_seconds, 2.0),
        ("subject_variation", subject_variation, 0.0),
        ("noise_m_s2", noise_m_s2, 0.0),
        ("seed", seed, 0),
    ):
        if not value >= smallest:
            raise ValueError(f"`{name}` must be at least {smallest}, but is {value} instead.")
    recordings = []
    for subject in range(num_subjects):
        generator = np.random.default_rng([seed, subject])
        wearer = _Wearer(generator, subject_variation)
        order = np.concatenate([generator.permutation(len(ACTIVITIES)) for _ in range(num_rounds)])
        lengths = generator.uniform(0.7, 1.3, len(order)) * bout_seconds * SAMPLE_RATE_HZ
        labels = np.repeat(order, np.rint(lengths).astype(np.int64))
        phase = wearer.phase_radians(labels, generator)
        for number, placement in enumerate(PLACEMENTS):
            signal = wearer.acceleration(placement, labels, phase, generator)
            signal += generator.normal(0.0, noise_m_s2, signal.shape)
            recordings.append(
                Recording(
                    signal.astype(np.float32),
                    {
                        "activity": labels,
                        "placement": np.broadcast_to(np.int64(number), len(labels)),
                    },
                    subject=f"s{subject + 1:02d}",
                    sample_rate_hz=SAMPLE_RATE_HZ,
                    session=placement,
                    channel_names=CHANNELS,
                )
            )
    return recordings


class _Wearer:
    """What stays the same about one subject: gait, posture, and how the sensors sit."""

    def __init__(self, generator: np.random.Generator, variation: float) -> None:
        self.cadence = np.exp(0.045 * variation * generator.standard_normal(len(ACTIVITIES)))
        self.cadence *= np.exp(0.035 * variation * generator.standard_normal())
        self.strength = np.exp(0.16 * variation * generator.standard_normal(len(PLACEMENTS)))
        self.harmonics = np.exp(0.22 * variation * generator.standard_normal((3, 3, 4)))
        self.phases = 0.55 * variation * generator.standard_normal((3, 3, 4))
        self.swing = np.exp(0.16 * variation * generator.standard_normal(len(PLACEMENTS)))
        self.lean = 0.09 * variation * generator.standard_normal((3, len(ACTIVITIES)))
        # Sensors turn on the body: freely about the part's own axis, less so across it.
        self.mounts = variation * generator.standard_normal((3, 3)) * (0.36, 0.135, 0.135)

    def phase_radians(
        self, labels: Int64[np.ndarray, "time"], generator: np.random.Generator
    ) -> Float64[np.ndarray, "time"]:
        """Phase of the steps, shared by the three sensors: its rate wanders by some percent."""
        rates = np.array([_STEP_RATE_HZ.get(name, 0.3) for name in ACTIVITIES]) * self.cadence
        wander = np.exp(0.06 * _smooth(generator.standard_normal((len(labels), 1)), 2.0)[:, 0])
        rate = _fade(rates[labels]) * wander
        return generator.uniform(0, 2 * np.pi) + 2 * np.pi * np.cumsum(rate) / SAMPLE_RATE_HZ

    def acceleration(
        self,
        placement: str,
        labels: Int64[np.ndarray, "time"],
        phase: Float64[np.ndarray, "time"],
        generator: np.random.Generator,
    ) -> Float64[np.ndarray, "time channels"]:
        """Noise-free reading of one sensor, in m/s²."""
        number = PLACEMENTS.index(placement)
        bounce = self._bounce(number, labels, phase)
        swing = np.array([_SWING_RADIANS[placement].get(name, 0.0) for name in ACTIVITIES])
        lean = np.array([_LEAN_RADIANS[placement].get(name, 0.0) for name in ACTIVITIES])
        lean = lean + self.lean[number]
        # Nobody keeps still: every part drifts and fidgets, the wrist most.
        restless = (0.3, 0.12, 0.08)[number]
        fidget = restless * _smooth(generator.standard_normal((len(labels), 2)), 1.5)
        angle = _fade(lean[labels]) + fidget[:, 0]
        angle += _fade(swing[labels]) * self.swing[number] * np.sin(phase / 2 + 0.7 * number)
        roll = _fade(np.array([_ROLL_RADIANS.get(name, 0.0) for name in ACTIVITIES])[labels])
        roll += fidget[:, 1]
        up = _GRAVITY_M_S2 * np.stack(
            [np.cos(angle) * np.cos(roll), np.sin(angle) * np.cos(roll), np.sin(roll)], axis=1
        )
        turn, tilt = _MOUNTS[placement]
        rotation = _rotation(0, turn + self.mounts[number, 0])
        rotation = rotation @ _rotation(2, tilt + self.mounts[number, 1])
        rotation = rotation @ _rotation(1, self.mounts[number, 2])
        return np.asarray((up + bounce) @ rotation.T)

    def _bounce(
        self,
        number: int,
        labels: Int64[np.ndarray, "time"],
        phase: Float64[np.ndarray, "time"],
    ) -> Float64[np.ndarray, "time axes"]:
        """Body motion along the part's up, forward and side axes, in m/s²."""
        bounce = np.array([_BOUNCE_M_S2.get(name, 0.0) for name in ACTIVITIES])
        weights = np.array([_HARMONICS.get(name, (0.0,) * 4) for name in ACTIVITIES])
        directions = np.array(_DIRECTIONS[PLACEMENTS[number]]) * self.strength[number]
        envelope = _fade(bounce[labels])[:, None] * _fade(weights[labels])
        motion = np.zeros((len(labels), 3))
        for harmonic in range(4):
            # The side axis moves with the stride, not with the step.
            for axis, pace in enumerate((1.0, 1.0, 0.5)):
                wave = np.sin(pace * (harmonic + 1) * phase + self.phases[number, axis, harmonic])
                gain = directions[axis] * self.harmonics[number, axis, harmonic]
                motion[:, axis] += gain * envelope[:, harmonic] * wave
        return motion


def _rotation(axis: int, radians: float) -> Float64[np.ndarray, "3 3"]:
    """Rotation about one of the axes up (0), forward (1) and side (2)."""
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(radians)
    matrix[first, second] = -np.sin(radians)
    matrix[second, first] = np.sin(radians)
    return matrix


def _fade(values: Float64[np.ndarray, "time ..."]) -> Float64[np.ndarray, "time ..."]:
    """Moving average over the transition, so that a change is half done where the label changes."""
    half = round(_TRANSITION_SECONDS * SAMPLE_RATE_HZ / 2)
    padded = np.concatenate(
        [values[:1].repeat(half, axis=0), values, values[-1:].repeat(half, axis=0)]
    )
    total = np.cumsum(np.concatenate([np.zeros_like(values[:1]), padded]), axis=0)
    width = 2 * half
    return np.asarray((total[width:] - total[:-width])[: len(values)] / width)


def _smooth(
    noise: Float64[np.ndarray, "time series"], seconds: float
) -> Float64[np.ndarray, "time series"]:
    """White noise of standard deviation 1, low-passed to the given time scale, still of about 1."""
    width = round(seconds * SAMPLE_RATE_HZ)
    kernel = np.hanning(width + 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    return np.stack([np.convolve(row, kernel, mode="same") for row in noise.T], axis=1)
