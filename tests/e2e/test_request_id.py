"""One plan followed by its id, from the verdict's line to the order at the exchange, in both formats of the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from p33_sidecar.store import keys
from tests.e2e.house import House


@pytest.fixture(scope="module", params=["text", "json"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with House(symbols=2, P33_LOG_FORMAT=request.param) as running:
        yield running


def grepped(house: House, plan_id: str) -> dict[str, dict[str, str]]:
    """What `journalctl ... | grep PLAN_ID` shows: event -> its fields."""
    found = {}
    for process in (*house.stack.sidecars, *house.stack.applies):
        for line in process.log.read_text().splitlines():
            if plan_id not in line:
                continue
            if line.startswith("{"):
                fields = {name: str(value) for name, value in json.loads(line).items()}
                found[fields["event"]] = fields
            else:
                fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))
                found[line.split()[2]] = fields
    return found


def test_one_id_from_plan_to_order(house: House) -> None:
    """plan_id, nonce and client order id agree between both logs, the record, the result and the exchange."""
    symbol = house.take()
    plan = house.publish(symbol, "PARTIAL_75")
    _, step = house.result(plan)
    house.until("both have said it", lambda: {"verdict.issued", "plan.applied"} <= grepped(house, plan.plan_id).keys())
    said = grepped(house, plan.plan_id)
    verdict, applied = said["verdict.issued"], said["plan.applied"]
    (nonce,) = [json.loads(fields["json"])["permit"]["nonce"]
                for _, fields in house.stack.redis.xrange(keys.DECISIONS) if fields["plan_id"] == plan.plan_id]
    (order,) = house.orders(symbol)
    assert verdict["nonce"] == applied["nonce"] == nonce
    assert (verdict["outcome"], verdict["entry"], applied["decision"]) == ("ALLOW", plan.entry_id, "EXECUTE")
    assert applied["client_order_id"] == order.client_order_id == step["client_order_id"]
    assert applied["order_id"] == str(order.order_id) == str(step["order_id"])


def test_a_denied_plan_is_found_as_well(house: House) -> None:
    """Its reason stands in both."""
    plan = house.publish(house.take(), "FOO")
    house.result(plan)
    house.until("both have said it", lambda: {"verdict.issued", "plan.applied"} <= grepped(house, plan.plan_id).keys())
    said = grepped(house, plan.plan_id)
    assert said["verdict.issued"]["reason"] == "unsupported_action"
    assert said["plan.applied"]["refusal"] == "p33_denied:unsupported_action"
