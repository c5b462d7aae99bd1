"""Inference: one window, and a large batch, by ours and by the same network in plain PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothdistill.benchmark.step.case import StepCase
from smoothdistill.benchmark.step.networks import conv2d_form, pool_first_form

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from smoothdistill.benchmark.step.case import Layout
    from smoothdistill.benchmark.step.networks import PlainNet

__all__ = ["BATCHES", "OURS", "inference_calls"]

BATCHES = (1, 1024)
OURS = "ours"
# float32 sums of 1216 terms in another order, of logits near 0.1.
_TOLERANCE = 1e-5


def inference_calls(layout: Layout, batch: int) -> dict[str, Callable[[], object]]:
    """Calls by provider, without gradients; `OURS` is the first.

    Raises:
        AssertionError: If two of them do not agree on the logits.
    """
    case = StepCase(layout, batch)
    signals = case.batches()[0][0]
    model = case.model().eval()
    forms = {"plain PyTorch": pool_first_form(model)}
    if layout == "published":
        forms = {"published form": conv2d_form(model), "plain, live rows only": forms.popitem()[1]}

    @torch.no_grad()
    def ours() -> object:
        return model(signals)

    calls: dict[str, Callable[[], object]] = {OURS: ours}
    with torch.no_grad():
        expected = model(signals)
        for name, net in forms.items():
            call = _prepared(net.eval(), signals)
            for task, logits in call().items():
                torch.testing.assert_close(logits, expected[task], rtol=_TOLERANCE, atol=_TOLERANCE)
            calls[name] = call
    return calls


def _prepared(net: PlainNet, signals: Tensor) -> Callable[[], dict[str, Tensor]]:
    rows = net.prepare(signals)

    @torch.no_grad()
    def call() -> dict[str, Tensor]:
        logits: dict[str, Tensor] = net(rows)
        return logits

    return call
