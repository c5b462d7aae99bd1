"""How long the parts of a step take."""

from __future__ import annotations

import time

__all__ = ["PartClock"]


class PartClock:
    """Adds up the seconds between its notes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = time.perf_counter()

    def note(self, part: str) -> None:
        """Say what the time since the last note has gone into."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._begun
        self._begun = now
