"""Windows in, logits of every task out: one file per network, and their registry."""

from __future__ import annotations

from smoothdistill.models.mtl_net import MTLNet as MTLNet
from smoothdistill.models.registry import MODELS as MODELS
from smoothdistill.models.registry import build_model as build_model
from smoothdistill.models.registry import register_model as register_model

__all__ = ["MODELS", "MTLNet", "build_model", "register_model"]
