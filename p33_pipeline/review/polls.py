"""What a verdict would have seen at a longer poll interval: the polls thinned, the younger of theirs and its own taken.

Of the polls the first is kept, then each that began at least the interval after the last one kept. A snapshot that was
older than that already stays what it was. A refresh on demand is not played: a longer interval is judged without.
A verdict's place among all replies is looked up once; each interval then costs a gather.
"""

from __future__ import annotations

import msgspec
import numpy as np

from p33_pipeline.review.lines import at
from p33_pipeline.review.verdicts import UNKNOWN, Replies, Verdicts


class Look(msgspec.Struct, frozen=True):
    """What each verdict saw: the amount (a place in `amounts`, -1: none), when it was taken, how old it was."""

    amt: np.ndarray
    snapshot_ms: np.ndarray
    age_ms: np.ndarray


def as_it_was(verdicts: Verdicts) -> Look:
    """The look at the interval in force."""
    return Look(verdicts.amt, verdicts.snapshot_ms, verdicts.age_ms)


def thinned(verdicts: Verdicts, replies: Replies, *, poll_ms: int) -> Look:
    """The look at a longer interval."""
    kept = np.isin(replies.requested_ms, every(replies.polls, poll_ms)) & (replies.amt >= 0)
    place = at(replies.line.last(kept), verdicts.reply, -1)
    requested_ms = at(replies.requested_ms, place, UNKNOWN)
    own = (verdicts.snapshot_ms != UNKNOWN) & (verdicts.snapshot_ms <= requested_ms)
    age_ms = np.where(place >= 0, verdicts.at_ms - requested_ms, UNKNOWN)
    return Look(np.where(own, verdicts.amt, at(replies.amt, place, -1)),
                np.where(own, verdicts.snapshot_ms, requested_ms), np.where(own, verdicts.age_ms, age_ms))


def every(polls: np.ndarray, poll_ms: int) -> np.ndarray:
    """The polls that stay at an interval."""
    kept, place = [], 0
    while place < len(polls):
        kept.append(polls[place])
        place = int(np.searchsorted(polls, polls[place] + poll_ms))
    return np.array(kept, np.int64)
