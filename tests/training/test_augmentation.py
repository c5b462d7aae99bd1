"""Variants of training windows: what they keep, and that a resumed run draws the same ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smoothdistill.training import Trainer, TrainStep
from smoothdistill.training.augmentation import Augmentation
from smoothdistill.training.checkpoint import load_checkpoint
from smoothdistill.training.config import AugmentConfig, RunConfig
from smoothdistill.training.interrupt import StopRequest

DEVIATION = torch.tensor([1.0, 2.0, 0.5])


def make_signals(channels: int = 3, windows: int = 50, samples: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(windows, channels, samples, generator=generator)


def vary(signals: torch.Tensor, *, epoch: int = 0, place: int = 0, seed: int = 0, **options):
    deviation = DEVIATION.repeat(signals.shape[1] // 3 + 1)[: signals.shape[1]]
    augmentation = Augmentation(AugmentConfig(**options), deviation, seed=seed, fold=0)
    return augmentation.apply_(signals.clone(), epoch, place)


@pytest.mark.parametrize("degrees", [1.0, 30.0, 180.0])
def test_a_turn_keeps_lengths_and_is_the_same_for_all_sensors(degrees: float) -> None:
    signals = make_signals(3).repeat(1, 2, 1)
    turned = vary(signals, rotation_degrees=degrees)
    torch.testing.assert_close(turned[:, :3].norm(dim=1), signals[:, :3].norm(dim=1))
    torch.testing.assert_close(turned[:, :3], turned[:, 3:])
    # The angle between a vector and itself turned is at most that of the turn.
    cosines = (turned[:, :3] * signals[:, :3]).sum(1) / signals[:, :3].square().sum(1)
    assert float(cosines.min()) >= np.cos(np.radians(degrees)) - 1e-5
    # Turns keep angles between vectors, and are no reflections.
    triple = torch.linalg.det(signals[:, :3, :3])
    torch.testing.assert_close(torch.linalg.det(turned[:, :3, :3]), triple, rtol=1e-4, atol=1e-4)


def test_scale_and_jitter_have_their_size() -> None:
    signals = make_signals(3, windows=4000)
    factors = (vary(signals, scale=0.2) / signals)[:, 0, 0]
    torch.testing.assert_close(
        vary(signals, scale=0.2), signals * factors[:, None, None], rtol=1e-4, atol=1e-5
    )
    assert float(factors.log().std()) == pytest.approx(0.2, rel=0.05)
    noise = vary(signals, jitter=0.1) - signals
    torch.testing.assert_close(noise.std(dim=(0, 2)), 0.1 * DEVIATION, rtol=0.02, atol=0.0)


def test_a_warp_keeps_the_ends_and_the_order_of_samples() -> None:
    line = torch.arange(40.0).expand(30, 3, 40)
    warped = vary(line, time_warp=0.3)
    torch.testing.assert_close(warped[:, :, 0], line[:, :, 0])
    torch.testing.assert_close(warped[:, :, -1], line[:, :, -1], rtol=1e-4, atol=0.0)
    assert bool((warped.diff(dim=2) > 0.0).all())
    assert not torch.allclose(warped, line)
    assert torch.equal(warped[:, 0], warped[:, 1])
    one_sample = torch.ones(4, 3, 1)
    assert torch.equal(vary(one_sample, time_warp=0.5), one_sample)


def test_what_is_drawn_depends_on_seed_epoch_and_place_alone() -> None:
    signals = make_signals()
    options = {"rotation_degrees": 20.0, "scale": 0.1, "jitter": 0.1, "time_warp": 0.1}
    first = vary(signals, **options)
    torch.rand(3)
    assert torch.equal(vary(signals, **options), first)
    for other in ({"epoch": 1}, {"place": 1024}, {"seed": 1}):
        assert not torch.equal(vary(signals, **other, **options), first)


def test_nothing_is_varied_by_default() -> None:
    assert not RunConfig().augment.is_on
    signals = make_signals()
    assert torch.equal(vary(signals), signals)
    assert torch.equal(vary(make_signals(4), scale=0.0), make_signals(4))


def test_channels_that_are_no_triads_are_not_turned() -> None:
    with pytest.raises(ValueError, match=r"`augment.rotation_degrees` must be 0 where the chan"):
        vary(make_signals(4), rotation_degrees=10.0)


@pytest.mark.parametrize(
    ("key", "value"), [("rotation_degrees", 181.0), ("scale", -0.1), ("jitter", 2.0)]
)
def test_options_have_their_ranges(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"`augment\.{key}` must be at (most|least)"):
        RunConfig.from_table({"augment": {key: value}})


def test_training_goes_on_to_the_same_bits(tiny, tmp_path, monkeypatch) -> None:
    """In one go, and stopped in the second gathering of the second epoch."""
    windows = tiny.make_windows(per_subject=1000)
    plain = tiny.make_trainer(tmp_path / "plain", epochs=2, batch_size=256).config.to_table()
    table = {**plain, "augment": {"rotation_degrees": 30.0, "jitter": 0.05}}

    def trainer(name: str, one: dict) -> Trainer:
        return Trainer.from_config(RunConfig.from_table(one), out=tmp_path / name, progress=False)

    runs = [
        trainer("varied", table).fit(windows, num_folds=2, folds=[0]),
        None,
        trainer("not", plain).fit(windows, num_folds=2, folds=[0]),
    ]
    num_steps = 0
    train = TrainStep.__call__

    def count(self, *batch, **taught):
        nonlocal num_steps
        num_steps += 1
        return train(self, *batch, **taught)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", count)
        patch.setattr(StopRequest, "requested", lambda self: num_steps >= 14)
        with pytest.raises(KeyboardInterrupt):
            trainer("again", table).fit(windows, num_folds=2, folds=[0])
    saved = load_checkpoint(tmp_path / "again" / "fold-00" / "last.safetensors").metadata
    assert (int(saved["epoch"]), int(saved["step"])) == (1, 6)  # a gathering is 4 batches
    runs[1] = Trainer.resume(tmp_path / "again", data=windows)
    weights = [run.student(0).state_dict() for run in runs]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert any(not torch.equal(weights[0][key], weights[2][key]) for key in weights[0])
