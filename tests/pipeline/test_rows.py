"""Rows of odd messages: kept whole with the reason, and no row is another one's business."""

from __future__ import annotations

import gc
import random

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p33_pipeline.archive.rows import table_of
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import tell
from p33_pipeline.history import TABLES
from p33_sidecar.core.model import LATEST_MS
from p33_sidecar.core.plan import timestamp_of
from tests.core.made import facts
from tests.core.test_record import written

from .conftest import MIDNIGHT_MS

ODD = (None, True, 1, -1, 2**70, 10**17, -10**17, 1.5, 1.0, "", "x", "1E-19", "1" * 70, "0." + "1" * 19, "1E+25", "-0",
       "nan", " 1", "1e3", "+5", ".5", "5.", "\0", "é", [], {}, [1], {"a": 1}, 2**63, -2**63 - 1, 253_402_300_800_000)
"""What a producer might write where something else belongs."""
TEXTS = ("", "{", "null", "[]", '{"v":1}', '{"v":2}', '"x"', "[" * 5_000)
Entry = tuple[str, dict[str, str]]


@pytest.fixture(scope="module")
def streams() -> dict[str, list[Entry]]:
    """Some of everything that the house and the stack write."""
    return {name: entries for name, entries in
            tell(3, deeds=DEEDS, start_ms=MIDNIGHT_MS, symbols=3, rounds=6).world.streams.items() if entries}


def spoiled(chance: random.Random, entry: Entry) -> Entry:
    """The entry with one thing wrong, or odd: a field gone, cut, replaced, or one member of what it carries."""
    entry_id, fields = entry
    name = chance.choice(sorted(fields))
    how = chance.random()
    if how < 0.1:
        return entry_id, {other: value for other, value in fields.items() if other != name}
    if how < 0.3 or fields[name][:1] not in ("{", "["):
        return entry_id, fields | {name: chance.choice((*TEXTS, fields[name][:-1], fields[name] + " "))}
    body = msgspec.json.decode(fields[name])
    spoil(chance, body)
    return entry_id, fields | {name: msgspec.json.encode(body).decode()}


def spoil(chance: random.Random, body: dict | list) -> None:
    """Put something odd at some place of it, however deep."""
    places = list(body) if isinstance(body, dict) else list(range(len(body)))
    if not places:
        return
    place = chance.choice(places)
    if isinstance(body[place], dict | list) and body[place] and chance.random() < 0.8:
        spoil(chance, body[place])
    elif chance.random() < 0.2:
        del body[place]
    else:
        body[place] = chance.choice(ODD)


@pytest.mark.parametrize("seed", range(3))
def test_a_row_is_the_same_whoever_stands_beside_it(streams, seed):
    """In a batch with every kind of odd neighbour, and alone; all are kept, and those unread say why."""
    chance = random.Random(seed)
    unread = 0
    for name, entries in streams.items():
        some = chance.choices(entries, k=120)
        mixed = [spoiled(chance, entry) if chance.random() < 0.5 else entry for entry in some]
        together = table_of(TABLES[name], mixed)
        alone = pa.concat_tables(table_of(TABLES[name], [entry]) for entry in mixed)
        assert together.combine_chunks().equals(alone.combine_chunks()), name
        assert together["raw"].null_count == 0 and together["id"].to_pylist() == [entry_id for entry_id, _ in mixed]
        empty = together.filter(pc.is_valid(together["problem"]))
        assert all(empty[column].null_count == empty.num_rows for column, _ in TABLES[name].columns), name
        unread += empty.num_rows
    assert unread > 50


def test_messages_however_odd_leave_no_cycles(streams):
    """The archive turns the collector off: what it would find does not grow with the messages, nor with the odd ones.
    """
    chance = random.Random(7)
    gc.collect()
    gc.disable()
    try:
        for name, entries in streams.items():
            mixed = [spoiled(chance, entry) for entry in chance.choices(entries, k=400)]
            unread = 400 - table_of(TABLES[name], mixed)["problem"].null_count
            assert unread > 20 and gc.collect() < unread / 2, name
    finally:
        gc.enable()


@pytest.mark.parametrize("part, member", [("policy", "poll_ms"), ("filters", "step"), ("context", "halted")])
def test_what_is_wrong_with_a_verdict_is_said_with_its_place(streams, part, member):
    """Also in the parts that are looked up instead of read."""
    entry_id, fields = streams["decisions"][0]
    body = msgspec.json.decode(fields["json"])
    body[part][member] = []
    rows = table_of(TABLES["decisions"], [(entry_id, {"json": msgspec.json.encode(body).decode()})])
    assert f"$.{part}.{member}" in rows["problem"][0].as_py() and rows["policy_hash"].null_count == 1


STAMPS = st.one_of(
    st.from_regex(r"[0-9]{9,11}([.][0-9]{0,60})?", fullmatch=True), st.text(max_size=20),
    st.from_regex(r"[+-]?[0-9.]{0,14}([eE][0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["", "x", "1769301008", "\u0663769301008", "-5", "253402300799.999", "253402300800"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(STAMPS, min_size=20, max_size=20))
def test_a_plan_was_made_when_the_rules_say_so(stamps):
    """By its timestamp, however that is written; without one when it was published; never, by one that is none."""
    raws = [written(facts(plan={"timestamp": stamp}))[0].decode() for stamp in stamps]
    rows = table_of(TABLES["decisions"], [(f"1-{n}", {"json": raw}) for n, raw in enumerate(raws)])
    assert rows["problem"].null_count == len(stamps)
    published = pc.cast(rows["published_at"], pa.int64()).to_pylist()
    by_rules = [timestamp_of(stamp)[0] if stamp else at for stamp, at in zip(stamps, published, strict=True)]
    assert (pc.cast(rows["plan_at"], pa.int64()).to_pylist()
            == [ms if ms is not None and abs(ms) <= LATEST_MS else None for ms in by_rules])


def test_bytes_that_were_no_text_are_spelled_out():
    """A client that decodes with surrogates, too."""
    rows = table_of(TABLES["events"], [("1-0", {"json": '{"v":1,"kind":"\udcff"}'})])
    assert rows["raw"].to_pylist() == ['{"v":1,"kind":"\\udcff"}'] and rows["problem"][0].is_valid
