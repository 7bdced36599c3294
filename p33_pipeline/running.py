"""From settings to work done: what the commands and the Dagster assets both call, so that they cannot differ.

Connections are opened and closed here, and nowhere else in the pipeline.
"""

from __future__ import annotations

import logging

import pyarrow.compute as pc
import redis

from p33_pipeline.archive.everything import Run, archive_streams, archive_trades, archived_until_ms
from p33_pipeline.archive.streams import StreamArchiver, sources
from p33_pipeline.archive.trades import TradeArchiver, searched_ms
from p33_pipeline.errors import SourceUnavailable
from p33_pipeline.history import TABLES, History, place_at
from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.exchange import Credentials, Exchange
from p33_sidecar.settings import Settings
from p33_sidecar.store import progress
from p33_sidecar.store.connect import Link, server_ms, store_errors
from p33_sidecar.store.positions import RedisBans

log = logging.getLogger("p33.pipeline")

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS


def history_of(settings: Settings) -> History:
    """The archive. Raises HistoryUnavailable for a place that cannot be understood."""
    return History(place_at(settings["P33_HISTORY_URL"]))


def archive_now(settings: Settings) -> Run:
    """Archive everything new of the streams and, with credentials, of the account's trades.

    Raises SourceUnavailable, HistoryUnreadable, HistoryUnavailable; nothing is lost by any of them.
    """
    history = history_of(settings)
    link = Link(settings.redis_url, name="pipeline", timeout_s=30.0)
    try:
        with store_errors():
            now_ms = server_ms(link.redis)
        archiver = StreamArchiver(link.redis, history, now_ms=lambda: server_ms(link.redis))
        found = sources(plan_stream=settings["P33_PLAN_STREAM"], result_stream=settings["P33_RESULT_STREAM"])
        exchange = _exchange(settings, link)
        try:
            trades = TradeArchiver(exchange, history, now_ms=lambda: server_ms(link.redis)) if exchange else None
            streams = archive_streams(archiver, found)
            new = archive_trades(trades, _symbols(history, now_ms)) if trades else None
            _note(link, archived_ms=archived_until_ms(history))
            return Run(streams, new)
        finally:
            if exchange:
                exchange.close()
    except StoreUnavailable as error:
        raise SourceUnavailable(f"Redis gave no answer ({error}): nothing was lost; see that REDIS_URL is right and "
                                "the server runs, and run again") from error
    finally:
        link.close()


def note_audited(settings: Settings, until_ms: int) -> None:
    """Leave a note of how far the audit reaches, for the gate to show. Never a reason to fail."""
    link = Link(settings.redis_url, name="pipeline")
    try:
        _note(link, audited_ms=until_ms)
    finally:
        link.close()


def _note(link: Link, **reached: int) -> None:
    try:
        progress.note(link.redis, **reached)
    except (StoreUnavailable, redis.RedisError) as error:
        log.warning("progress.unnoted", extra={"fields": {"why": str(error)[:200]}})


def _exchange(settings: Settings, link: Link) -> Exchange | None:
    """The account's own record; None without credentials."""
    pair = settings.credentials
    if pair is None:
        return None
    return Exchange(settings.exchange_url, credentials=Credentials(api_key=pair[0], api_secret=pair[1].reveal()),
                    bans=RedisBans(link.redis, by="pipeline"), now_ms=lambda: server_ms(link.redis))


def _symbols(history: History, now_ms: int) -> list[str]:
    """Every symbol that the archive names since the last search, or an hour before: those found by one are asked for
    ever after, and years of bookings are not read every time. Of positions at most a week is looked through."""
    since_ms = max(min(searched_ms(history), now_ms) - HOUR_MS, 0)
    seen = {symbol for table in ("ledger", "results")
            for symbol in history.scan(TABLES[table], from_ms=since_ms, columns=["symbol"])["symbol"].to_pylist()}
    polls = history.scan(TABLES["snapshots"], from_ms=max(since_ms, now_ms - WEEK_MS), columns=["positions"])
    held = pc.struct_field(pc.list_flatten(polls["positions"]), "symbol").to_pylist()
    return sorted({symbol for symbol in (*seen, *held) if symbol})
