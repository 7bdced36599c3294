"""How far the archive says that it reaches: never beyond what it has read."""

from __future__ import annotations

from p33_pipeline import running
from p33_pipeline.archive.everything import archived_until_ms
from p33_pipeline.history import History, place_at
from p33_sidecar.settings import load
from p33_sidecar.store import keys
from p33_sidecar.store.connect import server_ms


def test_what_is_written_while_trades_are_asked_for_is_not_archived_yet(redis_url, redis_client, tmp_path, monkeypatch):
    """An audit that took the time of the trades for the streams' called a permit forged whose verdict came then."""
    late: list[str] = []

    def symbols(*_: object) -> list[str]:
        late.append(redis_client.xadd(keys.DECISIONS, {"plan_id": "p-1", "json": "{}"}))
        while server_ms(redis_client) <= at_ms(late[0]):
            pass
        return []

    monkeypatch.setattr(running, "_symbols", symbols)
    settings = load({"REDIS_URL": redis_url, "P33_HISTORY_URL": str(tmp_path), "BINANCE_TESTNET_API_KEY": "a",
                     "BINANCE_TESTNET_API_SECRET": "b", "P33_EXCHANGE_URL": "http://127.0.0.1:1"})
    assert running.archive_now(settings).trades == 0
    assert 0 < archived_until_ms(History(place_at(str(tmp_path)))) <= at_ms(late[0])


def at_ms(entry_id: str) -> int:
    return int(entry_id.split("-")[0])
