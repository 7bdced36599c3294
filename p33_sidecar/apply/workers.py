"""Plans of one symbol one after the other, those of different symbols side by side.

What may not happen here: one symbol's wait in another's way, an entry handled twice at once, an entry forgotten that
failed. Whatever a worker raises leaves its entry pending in the stream; `failed` asks the reader to read it again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .. import logs
from ..errors import P33Error
from .layer import Entry

log = logging.getLogger("p33.apply")

WORKERS: Final = 256
"""Symbols that may wait side by side, each with a thread; threads are made as they are needed."""


class Lines:
    """A line of entries for each symbol. `put` from one thread; `handle` is called on the workers'."""

    def __init__(self, handle: Callable[[Entry], None], *, workers: int = WORKERS) -> None:
        self._handle = handle
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="p33-apply")
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Entry]] = {}
        self._in_hand: dict[str, str] = {}
        self._failing: dict[str, str] = {}
        self.closed = False
        """Nothing is taken in or begun any more."""
        self.failed = threading.Event()
        """An entry failed and waits to be read again."""

    def put(self, entry: Entry) -> None:
        """Hand an entry in; one that is in hand already is ignored."""
        symbol = entry.plan.symbol
        with self._lock:
            if self.closed or entry.entry_id in self._in_hand:
                return
            self._in_hand[entry.entry_id] = entry.plan.plan_id
            line = self._waiting.get(symbol)
            if line is not None:
                line.append(entry)
                return
            self._waiting[symbol] = deque([entry])
        self._pool.submit(self._work, symbol)

    def close(self) -> None:
        """Finish what is being handled; what still waits stays pending for the next life."""
        with self._lock:
            self.closed = True
        self._pool.shutdown(wait=True)

    def count(self) -> int:
        """Entries in hand."""
        return len(self._in_hand)

    def plans(self) -> frozenset[str]:
        """Ids of the plans in hand."""
        with self._lock:
            return frozenset(self._in_hand.values())

    def _work(self, symbol: str) -> None:
        while (entry := self._next(symbol)) is not None:
            try:
                self._handle(entry)
                self._failing.pop(entry.entry_id, None)
            except Exception as error:  # noqa: BLE001 - the outermost frame of a worker
                self._say_failed(entry, error)
                self.failed.set()
            finally:
                with self._lock:
                    del self._in_hand[entry.entry_id]

    def _next(self, symbol: str) -> Entry | None:
        """The next of the line; None ends the line, and the worker with it."""
        with self._lock:
            line = self._waiting[symbol]
            if line and not self.closed:
                return line.popleft()
            for entry in line:
                del self._in_hand[entry.entry_id]
            del self._waiting[symbol]
            return None

    def _say_failed(self, entry: Entry, error: Exception) -> None:
        """Once for each cause: it is tried again every second."""
        said = f"{type(error).__name__}: {error}"
        if self._failing.get(entry.entry_id) != said:
            self._failing[entry.entry_id] = said
            logs.event(log, logging.ERROR, "plan.failed", gate="P3.3", plan_id=entry.plan.plan_id,
                       symbol=entry.plan.symbol, error=said[:300],
                       exc_info=None if isinstance(error, P33Error) else error)
