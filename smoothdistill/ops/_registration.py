"""Makes an op known to `torch.compile` and `torch.export` under ``torch.ops.smoothdistill``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["register_op"]

# The low-level Library: `torch.library.custom_op` costs four times as much a call.
_library = torch.library.Library("smoothdistill", "FRAGMENT")  # type: ignore[no-untyped-call]


def register_op(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register a kernel for every device; it chooses the module of the device itself.

    Args:
        schema: ``name(arguments) -> results`` in the language of `torch.library`, with every
            mutation declared.
        kernel: Runs the op.
        fake: Gives empty results of the right shapes.
    """
    name = schema.partition("(")[0]
    _library.define(schema)  # type: ignore[no-untyped-call]
    # Not a key for each device: a call whose lists are all empty has no device to go by.
    _library.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"smoothdistill::{name}", fake)
