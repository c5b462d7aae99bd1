"""Windows in, logits of every task out: one file per network, and their registry."""

from __future__ import annotations

from smoothdistill.models.har_mlp import HARMLP as HARMLP
from smoothdistill.models.mobilenet_v3 import MobileNetV31D as MobileNetV31D
from smoothdistill.models.mtl_net import MTLNet as MTLNet
from smoothdistill.models.network import Network as Network
from smoothdistill.models.registry import MODELS as MODELS
from smoothdistill.models.registry import build_model as build_model
from smoothdistill.models.registry import register_model as register_model
from smoothdistill.models.resnet_lstman import ResNetLSTMaN as ResNetLSTMaN
from smoothdistill.models.simh_head import SIMHHead as SIMHHead

__all__ = [
    "HARMLP",
    "MODELS",
    "MTLNet",
    "MobileNetV31D",
    "Network",
    "ResNetLSTMaN",
    "SIMHHead",
    "build_model",
    "register_model",
]
