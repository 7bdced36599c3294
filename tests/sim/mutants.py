"""Variants of the permit path that are broken on purpose: the laws have to catch each, or they could not fail.

A mutant whose place in the code is gone raises StaleMutant: it has to be moved, not dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import ROUND_UP, Decimal
from unittest import mock

import msgspec

from p33_sidecar.core import checks
from p33_sidecar.core.model import Phase
from p33_sidecar.exchange import SymbolPosition
from p33_sidecar.service import accounts, booking, facts, identity, poller
from p33_sidecar.store import scripts


class StaleMutant(RuntimeError):
    """The code that the mutant changes is not there any more."""


Mutant = Callable[[], contextlib.AbstractContextManager]
MUTANTS: dict[str, Mutant] = {}


def mutant(make: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
    """Registers a mutant under its name."""
    MUTANTS[make.__name__] = contextlib.contextmanager(make)
    return make


def _without_check(name: str) -> Mutant:
    """A rule that always agrees."""
    @contextlib.contextmanager
    def skipped() -> Iterator[None]:
        kept = tuple(check for check in checks.CHECKS if check.__name__ != name)
        if len(kept) == len(checks.CHECKS):
            raise StaleMutant(name)
        with mock.patch.object(checks, "CHECKS", kept):
            yield
    return skipped


for _name in ("not_halted", "not_held", "plan_after_last_order", "store_steady", "fresh_snapshot", "same_quantity",
              "nothing_settling", "no_permit_outstanding"):
    MUTANTS[f"without_{_name}"] = _without_check(_name)


def _with_script(script: str, text: str, instead: str) -> Mutant:
    """A script in which a condition is another."""
    @contextlib.contextmanager
    def changed() -> Iterator[None]:
        original = scripts.source
        if text not in original(script):
            raise StaleMutant(f"{script}.lua: {text}")

        def source(name: str) -> str:
            return original(name).replace(text, instead) if name == script else original(name)

        scripts.sha.cache_clear()
        try:
            with mock.patch.object(scripts, "source", source):
                yield
        finally:
            scripts.sha.cache_clear()
    return changed


MUTANTS["issue_compares_nothing"] = _with_script("issue", "~= ARGV[3] then", "== nil then")
MUTANTS["taking_looks_at_no_facts"] = _with_script(
    "take", "return facts_stand(now) and 'free' or 'facts_changed'", "return 'free'")


@mutant
def rounds_up():
    """Quantities rounded to the nearest step above."""
    original = checks.safe_close_qty

    def up(given):
        qty = original(given)
        if qty is None or given.filters is None:
            return qty
        return (qty + given.filters.step * Decimal("0.4")).quantize(given.filters.step, ROUND_UP)

    with mock.patch.object(checks, "safe_close_qty", up):
        yield


@mutant
def missing_is_flat():
    """A symbol that the reply lacks is written as flat (incident X01)."""
    original = accounts.sift
    known: set[str] = set()

    def sift(positions, seen):
        known.update(positions)
        gone = {symbol: SymbolPosition(symbol, Decimal(0), False, "0", "0", "", "0", seen.get(symbol, 0))
                for symbol in known - set(positions)}
        return original(dict(positions) | gone, seen)

    with mock.patch.object(poller, "sift", sift):
        yield


@mutant
def every_symbol_is_free():
    """A permit that is open or taken holds nobody back."""
    with mock.patch.object(facts, "phase_of", lambda *_, **__: (Phase.FREE, 0, 0)):
        yield


@mutant
def forgets_orders():
    """A result delivered again is booked again (incident I29)."""
    original = booking.book_order

    def forgetful(amt, report, *, before, **more):
        return original(amt, report, before=None, **more)

    with mock.patch.object(booking, "book_order", forgetful):
        yield


@mutant
def restarts_go_unnoticed():
    """A server that came back with less is trusted at once."""
    original = identity._notice

    def trusting(link, memory, clock, what):
        original(link, memory, clock, what)
        identity.switches.accept_run_id(link.redis, link.run_id)
        memory.accepted_run_id, memory.restart_noticed_ms = link.run_id, 0

    with mock.patch.object(identity, "_notice", trusting):
        yield


@mutant
def snapshots_look_new():
    """A snapshot written when the reply came, not when it was asked for, and again while polls fail."""
    original = poller.Poller._failed

    def freshened(self, failure, requested_ms, mono_ns):
        original(self, failure, requested_ms, mono_ns)
        for seen in list(self.memory.snapshots.values()):
            renewed = msgspec.structs.replace(seen.snapshot, ts_ms=requested_ms)
            self.store.write([renewed], versions={}, poll_id="", record=b"", now_ms=requested_ms)
            self.memory.keep_snapshot(renewed, mono_ns)

    with mock.patch.object(poller.Poller, "_failed", freshened):
        yield
