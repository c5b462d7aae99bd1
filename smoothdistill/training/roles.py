"""The two models of every run: the student, and the averaged teacher that follows it."""

from __future__ import annotations

from typing import Literal

__all__ = ["ROLES", "Role"]

Role = Literal["student", "teacher"]

ROLES: tuple[Role, ...] = ("student", "teacher")
