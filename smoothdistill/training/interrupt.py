"""Ctrl-C and SIGTERM: save at the next step, then leave; a second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["StopRequest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While the block lasts, takes note of the first SIGINT or SIGTERM instead of dying of it.

    Handlers are set in the main thread only, since Python allows no other, and the old ones are
    put back at the end. The second signal ends the process at once, with 128 + its number.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._old_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._old_handlers[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number

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
