"""Where a file of the archive lies and which files a reader opens. Pure: names in, names out.

    <table>/date=YYYY-MM-DD/part-<first id>_<last id>.parquet

Ids are `ms-seq` and compared by both halves. Files of one day may overlap: a compacted file stands beside its parts
until they are removed. A reader takes a file only for the rows behind all that earlier files already gave it, so each
row is read once whatever stands there.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import msgspec

from p33_sidecar.core.model import LATEST_MS

PREFIX = "part-"
_NAME = re.compile(r"part-(\d+)-(\d+)_(\d+)-(\d+)\.parquet\Z")
_DAY = re.compile(r"date=(\d{4}-\d{2}-\d{2})\Z")

Id = tuple[int, int]
"""A stream id as (ms, sequence)."""
BEGIN: Id = (0, 0)


class Part(msgspec.Struct, frozen=True, order=True):
    """One file: the day's folder it stands in and the ids it begins and ends with."""

    day: date
    first: Id
    last: Id

    @property
    def path(self) -> str:
        return f"date={self.day.isoformat()}/{PREFIX}{id_text(self.first)}_{id_text(self.last)}.parquet"


class Share(msgspec.Struct, frozen=True):
    """What a reader takes from a file: the rows behind `after`."""

    part: Part
    after: Id

    @property
    def whole(self) -> bool:
        return self.after < self.part.first


def id_of(text: str) -> Id:
    """(ms, seq) of `ms-seq`. Raises ValueError."""
    ms, _, seq = text.partition("-")
    return int(ms), int(seq or 0)


def id_text(value: Id) -> str:
    return f"{value[0]}-{value[1]}"


def day_of(ms: int) -> date:
    """The UTC day of a time; the calendar's last for all beyond it, since anything can stand in a stream's id."""
    return datetime.fromtimestamp(min(ms, LATEST_MS) // 1000, UTC).date()


def day_in(folder: str) -> date:
    """The day that a folder is named after. Raises ValueError."""
    match = _DAY.match(folder)
    if match is None:
        raise ValueError(f"{folder!r} is no date=YYYY-MM-DD")
    return date.fromisoformat(match[1])


def part_of(folder: str, name: str) -> Part | None:
    """The part a file's folder and name say it is; None for anything else that lies there."""
    day, match = _DAY.match(folder), _NAME.match(name)
    if not day or not match:
        return None
    numbers = [int(group) for group in match.groups()]
    return Part(date.fromisoformat(day[1]), (numbers[0], numbers[1]), (numbers[2], numbers[3]))


def shares(parts: list[Part]) -> list[Share]:
    """Which rows to take from which file, in the order of the ids; files wholly covered by others are left out."""
    taken: list[Share] = []
    reached = (-1, -1)
    for part in sorted(parts, key=lambda p: (p.first, (-p.last[0], -p.last[1]))):
        if part.last > reached:
            taken.append(Share(part, reached))
            reached = part.last
    return taken


def covered(parts: list[Part]) -> list[Part]:
    """The files of which a reader takes nothing."""
    needed = {share.part for share in shares(parts)}
    return [part for part in parts if part not in needed]
