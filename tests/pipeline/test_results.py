"""Results in the archive: an executed step keeps its order's surest name, side and quantity."""

from __future__ import annotations

import json
from decimal import Decimal

from p33_pipeline.archive.streams import Source
from p33_pipeline.history import TABLES
from tests.pipeline.conftest import MIDNIGHT_MS, archiver

STREAM = "quantum:apply.result"


def test_an_executed_result_is_archived_with_its_order(redis_client, history):
    """The sample of the contract's chapter 1."""
    step = {"step": "CLOSE_PARTIAL_75", "status": "success", "order_id": "8389765", "side": "SELL",
            "quantity": "0.028", "executed_qty": "0.028", "reduce_only": True}
    redis_client.xadd(STREAM, {
        "plan_id": "f1a8d7f48713d5cf", "symbol": "BTCUSDT", "decision": "EXECUTE", "executed": "True",
        "would_execute": "False", "steps_results": json.dumps([step]), "error": "", "timestamp": "1769301010",
    }, id=f"{MIDNIGHT_MS}-0")
    archiver(redis_client, history).run(Source(TABLES["results"], STREAM))
    row, = history.scan(TABLES["results"]).to_pylist()
    order, = row["orders"]
    assert (row["plan_id"], row["executed"], row["problem"]) == ("f1a8d7f48713d5cf", True, None)
    assert (order["order_id"], order["side"], order["executed_qty"]) == ("8389765", "SELL", Decimal("0.028"))
    assert order["key"] and order["settled"] and order["reduce_only"]
