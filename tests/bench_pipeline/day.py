"""A day of any size, written fast: a story with planted deeds among millions of verdicts of bystanders.

All rows are what the archive would hold: the story's come through `table_of`, the millions' typed columns are their
templates' with ids and times put in, a whole column at once. The audit of such a day must find the story's truth and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.archive.rows import table_of
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import Planted, Story, tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import TABLES, History
from p33_sidecar.core.model import Policy
from tests.bench_pipeline.templates import PARTS, Template, templates

START_MS = 1_769_299_200_000
"""2026-01-25 00:00 UTC."""
PLAYERS, HELD = 6, 100
"""Symbols of the story, and of all that hold a position."""
POLLS_A_DAY, VERDICTS_A_DAY = 17_280, 10_000_000
POLLS_A_ROUND, LIE = 16, "irreproducible_verdict"
PERIODS, AT_ONCE = 86, 1_000
"""Polls whose verdicts make one file (about 50,000), and records put together at once."""


class Day(msgspec.Struct, frozen=True):
    """What was written, and what an audit of it must find."""

    from_ms: int
    to_ms: int
    verdicts: int
    snapshot_rows: int
    truth: tuple[Planted, ...]


def bystanders() -> dict[str, Decimal]:
    """Symbols that only hold something, each its own amount, one in three short."""
    return {f"B{n:02}USDT": (Decimal(n * 37 + 1) / 8) * (-1 if n % 3 == 0 else 1) for n in range(HELD - PLAYERS)}


def write_day(history: History, *, scale: float, density: float = 1, seed: int = 1, each: int = 100) -> Day:
    """Write a day's `scale`: shorter, and as dense as a whole one, or `density` of that.

    The deed that edits a figure and decides nothing is left out: in a large day it is found in the sample or not at
    all. A verdict of the crowd that lies about its outcome stands for it.
    """
    policy = Policy()
    deeds = {name: deed for name, deed in DEEDS.items() if name != LIE}
    rounds = max(round(POLLS_A_DAY * scale / POLLS_A_ROUND) - 2, len(deeds) // PLAYERS + 1)
    others = bystanders()
    story = tell(seed, deeds=deeds, start_ms=START_MS, symbols=PLAYERS, rounds=rounds, bystanders=others)
    crowd = Crowd(story, templates(others, each=each, policy=policy, seed=seed), policy.poll_ms,
                  per_poll=round(VERDICTS_A_DAY / POLLS_A_DAY * density))
    write(story, history, besides={"decisions": crowd.decisions(), "plans": crowd.plans()})
    streams = story.world.streams
    truth = tuple(sorted([*story.truth, Planted(LIE, crowd.liar)]))
    return Day(story.from_ms, story.to_ms, crowd.count + len(streams["decisions"]), len(streams["snapshots"]) * HELD,
               truth)


class Crowd:
    """The bystanders' plans and verdicts: so many after each poll, resting on it or on an older one."""

    def __init__(self, story: Story, drawn: list[Template], poll_ms: int, *, per_poll: int) -> None:
        self.story, self.drawn, self.poll_ms, self.per_poll = story, drawn, poll_ms, per_poll
        self.periods = range(4, (story.to_ms - story.from_ms) // poll_ms - 24)
        self.count = len(self.periods) * per_poll
        self.lie = (self.periods[0] + len(self.periods) // 2) * per_poll
        self.liar = drawn[self.lie * 7919 % len(drawn)].symbol
        entries = [(f"{n}-0", t.fields | {"outcome": t.outcome, "json": t.raw}) for n, t in enumerate(drawn)]
        self.verdicts = table_of(TABLES["decisions"], entries)
        self.plan_rows = table_of(TABLES["plans"], [(f"{n}-0", t.fields) for n, t in enumerate(drawn)])
        self.pieces = [pa.array([t.pieces[n] for t in drawn]) for n in range(len(PARTS) + 1)]
        self.before = {name: np.array([t.before_ms[name] for t in drawn]) for name in drawn[0].before_ms}

    def chunks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """(number, template, time of the verdict, its place among those of its poll), in time."""
        for first in range(0, len(self.periods), PERIODS):
            periods = np.array(self.periods[first:first + PERIODS])
            place = np.tile(np.arange(self.per_poll), len(periods))
            period = periods.repeat(self.per_poll)
            number = period * self.per_poll + place
            which = number * 7919 % len(self.drawn)
            at_ms = self.story.from_ms + period * self.poll_ms + self.before["snapshot_ms"][which] % self.poll_ms
            order = np.lexsort((place, at_ms))
            yield number[order], which[order], at_ms[order], place[order] + 10

    def decisions(self) -> Iterator[pa.Table]:
        for chunk in self.chunks():
            rows = self._decisions(*chunk)
            for place in np.flatnonzero(chunk[0] == self.lie):
                rows = pa.concat_tables([rows.slice(0, place), _lying(rows.slice(place, 1)), rows.slice(place + 1)])
            yield rows

    def plans(self) -> Iterator[pa.Table]:
        for chunk in self.chunks():
            yield self._plans(*chunk)

    def _decisions(self, number: np.ndarray, which: np.ndarray, at_ms: np.ndarray, seq: np.ndarray) -> pa.Table:
        times = {name: at_ms - before[which] for name, before in self.before.items()}
        named = self._named(number, times, seq)
        raw = pa.chunked_array([self._raw(which, named, first) for first in range(0, len(number), AT_ONCE)])
        return self._rows(self.verdicts, which, _ids(at_ms, seq), raw=raw, decision_id=named["nonce"],
                          nonce=named["nonce"], plan_id=named["plan_id"], stream_id=named["stream_id"],
                          published_at=times["entry_ms"], read_at=times["read_ms"], decided_at=at_ms, issued_at=at_ms,
                          expires_at=times["expires_ms"], snapshot_at=times["snapshot_ms"],
                          plan_timestamp=named["stamp"], plan_at=times["stamp"], last_order_ms=times["order_ms"])

    def _raw(self, which: np.ndarray, named: dict[str, pa.Array], first: int) -> pa.Array:
        """`AT_ONCE` records put together: few enough to stay near the processor."""
        drawn = which[first:first + AT_ONCE]
        put = [part for n, name in enumerate(PARTS)
               for part in (self.pieces[n].take(pa.array(drawn)), named[name].slice(first, AT_ONCE))]
        return pc.binary_join_element_wise(*put, self.pieces[-1].take(pa.array(drawn)), "")

    def _named(self, number: np.ndarray, times: dict[str, np.ndarray], seq: np.ndarray) -> dict[str, pa.Array]:
        """The parts as texts."""
        written = {name: pa.array(ms).cast(pa.string()) for name, ms in times.items()}
        whole = pa.array(times["stamp"] // 1000).cast(pa.string())
        rest = pc.utf8_lpad(pa.array(times["stamp"] % 1000).cast(pa.string()), 3, "0")
        digits = pc.utf8_lpad(pa.array(number).cast(pa.string()), 12, "0")
        return written | {"stream_id": _ids(times["entry_ms"], seq)[0],
                          "stamp": pc.binary_join_element_wise(whole, rest, "."),
                          "plan_id": pc.binary_join_element_wise("c0", digits, ""),
                          "nonce": pc.binary_join_element_wise("c0ffee", digits, digits, "")}

    def _plans(self, number: np.ndarray, which: np.ndarray, at_ms: np.ndarray, seq: np.ndarray) -> pa.Table:
        times = {name: at_ms - before[which] for name, before in self.before.items()}
        named = self._named(number, times, seq)
        fields = {name: pa.array([t.fields[name] for t in self.drawn]).take(which) for name in self.drawn[0].fields}
        fields |= {"plan_id": named["plan_id"], "timestamp": named["stamp"]}
        told = [part for name, value in fields.items() for part in (f',"{name}":"', value, '"')]
        raw = pc.binary_join_element_wise("{", *[told[0][1:], *told[1:]], "}", "")
        return self._rows(self.plan_rows, which, _ids(times["entry_ms"], seq), raw=raw, plan_id=named["plan_id"],
                          decided_at=times["stamp"])

    @staticmethod
    def _rows(drawn: pa.Table, which: np.ndarray, ids: tuple, **columns: object) -> pa.Table:
        """The templates' rows with some columns put in their place."""
        new = {"id": ids[0], "at": ids[1], "seq": ids[2], **columns}
        kept = drawn.select([name for name in drawn.column_names if name not in new]).take(pa.array(which))
        arrays = [kept[field.name] if field.name not in new else _column(new[field.name]).cast(field.type)
                  for field in drawn.schema]
        return pa.Table.from_arrays(arrays, schema=drawn.schema)


def _lying(rows: pa.Table) -> pa.Table:
    """The verdict with the other outcome, as if somebody had edited its record."""
    record = msgspec.json.decode(rows["raw"][0].as_py())
    record |= {"outcome": "DENY" if record["outcome"] == "ALLOW" else "ALLOW"}
    return table_of(TABLES["decisions"], [(rows["id"][0].as_py(), {"json": msgspec.json.encode(record).decode()})])


def _column(values: object) -> pa.Array | pa.ChunkedArray:
    return values if isinstance(values, pa.ChunkedArray) else pa.array(values)


def _ids(at_ms: np.ndarray, seq: np.ndarray) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Stream ids, their times and sequence numbers."""
    written = pc.binary_join_element_wise(pa.array(at_ms).cast(pa.string()), pa.array(seq).cast(pa.string()), "-")
    return written, at_ms, seq
