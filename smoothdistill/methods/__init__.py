"""What to distil: one file per method. A method names no device and no kernel."""

from __future__ import annotations

from smoothdistill.methods.base import Method as Method
from smoothdistill.methods.multitask import Multitask as Multitask
from smoothdistill.methods.multitask import MultitaskOptions as MultitaskOptions
from smoothdistill.methods.options import MethodOptions as MethodOptions
from smoothdistill.methods.options import validate_options as validate_options
from smoothdistill.methods.registry import METHODS as METHODS
from smoothdistill.methods.registry import build_method as build_method
from smoothdistill.methods.registry import register_method as register_method
from smoothdistill.methods.smooth_distill import SmoothDistill as SmoothDistill
from smoothdistill.methods.smooth_distill import SmoothDistillOptions as SmoothDistillOptions

__all__ = [
    "METHODS",
    "Method",
    "MethodOptions",
    "Multitask",
    "MultitaskOptions",
    "SmoothDistill",
    "SmoothDistillOptions",
    "build_method",
    "register_method",
    "validate_options",
]
