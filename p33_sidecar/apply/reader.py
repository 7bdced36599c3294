"""The plan stream, as the Apply Layer's group reads it: new entries, our own unfinished ones, a dead consumer's.

What may not happen here: an entry left pending that nobody has in hand, or an acknowledgement of anything but a message
that is no plan for us. What cannot be understood is the sidecar's to record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ..core.plan import EXECUTE, MessageRefused, plan_of
from ..store.applying import CLAIM_IDLE_MS, ApplyStore, Delivered
from ..store.connect import ServerClock
from ..store.state import entry_order
from .layer import Entry
from .workers import Lines

BLOCK_MS: Final = 1_000
BATCH: Final = 64
MOST_IN_HAND: Final = 2_000
SWEEP_S: Final = 10.0
"""Between two looks at what is pending. Looking renews our entries' idle time: only a dead consumer's are claimed."""
RETRY_S: Final = 1.0
"""The same while an entry has failed."""


class PlanReader:
    """Hands every entry to the lines. `step()` is one turn; for one thread."""

    def __init__(self, store: ApplyStore, lines: Lines, clock: ServerClock, *, wait_ms: int,
                 passed_over: Callable[[], None], mono_s: Callable[[], float] = time.monotonic) -> None:
        self._store, self._lines, self._clock = store, lines, clock
        self._idle_ms = max(CLAIM_IDLE_MS, wait_ms + CLAIM_IDLE_MS // 2)
        self._passed_over, self._mono_s = passed_over, mono_s
        self._swept_s = float("-inf")

    def step(self, *, block_ms: int = BLOCK_MS) -> None:
        """One turn. Raises StoreUnavailable."""
        self._clock.sync(self._store.now_ms())
        self._sweep_if_due()
        if self._lines.count() < MOST_IN_HAND:
            self._hand_in(self._store.new_plans(count=BATCH, block_ms=block_ms), again=False)
        else:
            time.sleep(block_ms / 1000)

    def reset(self) -> None:
        """After a failure: what was handed out and never arrived is pending."""
        self._swept_s = float("-inf")

    def _sweep_if_due(self) -> None:
        pause_s = RETRY_S if self._lines.failed.is_set() else SWEEP_S
        if self._mono_s() - self._swept_s < pause_s:
            return
        self._lines.failed.clear()
        self._hand_in(self._store.own_pending(), again=True)
        self._hand_in(self._store.claim(idle_ms=self._idle_ms), again=True)
        self._swept_s = self._mono_s()

    def _hand_in(self, entries: list[Delivered], *, again: bool) -> None:
        for entry_id, fields in entries:
            plan = None
            if fields.get("decision") == EXECUTE:
                try:
                    plan = plan_of(fields, entry_ms=entry_order(entry_id)[0])
                except MessageRefused:
                    plan = None
            if plan is None:
                self._store.acknowledge(entry_id)
                self._passed_over()
            else:
                self._lines.put(Entry(entry_id, plan, again))
