"""What the process takes of the machine: one heap, a lock that is handed over quickly, nothing left of its own start.

Only what the interpreter and the C library offer as settings; without them everything works, larger or later.
"""

from __future__ import annotations

import gc
import sys

from p33_sidecar.libc import tell

M_ARENA_MAX = -8
"""mallopt(3), glibc's malloc.h."""
SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread may keep a verdict waiting for the interpreter's lock; the default is 5 ms."""
GARBAGE_AFTER = 10_000
"""New containers between two looks for cycles; a verdict leaves none."""


def prepare() -> None:
    """Before any thread is there. Four loops with a heap each would keep megabytes of their own."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(GARBAGE_AFTER)
    tell("mallopt", M_ARENA_MAX, 1)


def settle() -> None:
    """Once everything was read and compared: give back what only the start needed, and never look through the rest."""
    gc.collect()
    gc.freeze()
    tell("malloc_trim", 0)
