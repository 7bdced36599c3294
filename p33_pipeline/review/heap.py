"""What a review asks of the machine, for its process: memory it has let go of stays at hand, and comes page by page.

Its arrays live for milliseconds, a few megabytes each. Left to themselves the C library hands them back at once, and
NumPy asks for the next ones as huge pages, which the kernel zeroes whole: a tenth of the review's processor time
(docs/scaling.md).
"""

from __future__ import annotations

from typing import Final

from p33_sidecar.libc import tell

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3), glibc's malloc.h."""
PR_SET_THP_DISABLE = 41
"""prctl(2), the kernel's linux/prctl.h."""
KEPT_BYTES: Final = 2**30
LARGE_BYTES: Final = 2**25
"""Arrays of all verdicts: each is made once, and given back when it goes."""


def keep_memory() -> None:
    """From now on, in this process."""
    tell("mallopt", M_MMAP_THRESHOLD, LARGE_BYTES)
    tell("mallopt", M_TRIM_THRESHOLD, KEPT_BYTES)
    tell("prctl", PR_SET_THP_DISABLE, 1, 0, 0, 0)
