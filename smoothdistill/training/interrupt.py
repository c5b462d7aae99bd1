"""Ctrl-C and SIGTERM: save at the next step, then leave; a second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["StopRequest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While the block lasts, takes note of the first SIGINT or SIGTERM instead of dying of it.

    Blocks may overlap; a signal is noted by all that are under way. Handlers are set in the main
    thread only, since Python allows no other, and the old ones are put back after the last block.
    The second signal ends the process at once, with 128 + its number.
    """

    _under_way: ClassVar[list[StopRequest]] = []
    _old_handlers: ClassVar[dict[signal.Signals, Any]] = {}

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            if not self._under_way:
                for number in _SIGNALS:
                    self._old_handlers[number] = signal.signal(number, _hear)
            self._under_way.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self in self._under_way:
            self._under_way.remove(self)
            if not self._under_way:
                for number, handler in self._old_handlers.items():
                    signal.signal(number, handler)

    def note(self, number: int) -> None:
        """Take note of a signal; the first one counts."""
        self.signal_number = self.signal_number or number

    @classmethod
    def note_all(cls, number: int) -> None:
        """Let all that are under way take note of a signal, as if it had come."""
        for request in list(cls._under_way):
            request.note(number)

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    def leave(self, sentence: str) -> NoReturn:
        """End the run as the signal asked for.

        Raises:
            KeyboardInterrupt: After SIGINT; the command line exits with 130.
            SystemExit: After SIGTERM, with the code 143.
        """
        if self.signal_number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt(sentence)


def _hear(number: int, frame: FrameType | None) -> None:
    if any(request.requested() for request in StopRequest._under_way):
        os._exit(128 + number)
    StopRequest.note_all(number)
