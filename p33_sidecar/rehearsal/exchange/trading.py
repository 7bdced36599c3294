"""The endpoints that change something: orders, the position mode, the listen key.

No rule of trading may be decided here: the engine does that, this only says how it is asked and answered.
"""

from __future__ import annotations

import msgspec

from p33_sidecar.rehearsal.exchange import rules, wire
from p33_sidecar.rehearsal.exchange.errors import refusal
from p33_sidecar.rehearsal.exchange.model import ZERO
from p33_sidecar.rehearsal.exchange.params import Params
from p33_sidecar.rehearsal.exchange.reads import order_reference
from p33_sidecar.rehearsal.exchange.venue import Venue


def new_order(venue: Venue, params: Params) -> object:
    """A market order acknowledged with ACK says NEW and nothing executed, although it filled; RESULT says the end."""
    wanted = params.text("newOrderRespType", "ACK")
    if wanted not in ("ACK", "RESULT"):
        raise refusal(-1130, "newOrderRespType")
    ticket = rules.read_ticket(params)
    contract = venue.engine.contract(ticket.symbol)
    # a hedge account refuses the parameter itself, whatever its value
    rules.check_mode(ticket, hedge=venue.engine.hedge, sent_reduce_only="reduceOnly" in params)
    order = venue.engine.place(ticket)
    if wanted == "ACK":
        order = msgspec.structs.replace(order, status="NEW", executed_qty=ZERO, updated_ms=order.placed_ms)
    return wire.order_ack(order, contract)


def cancel_order(venue: Venue, params: Params) -> object:
    contract = venue.engine.contract(params.text("symbol"))
    order_id, client_id = order_reference(params)
    order = venue.engine.cancel(contract.symbol, order_id=order_id, client_order_id=client_id)
    return wire.order_ack(order, contract)


def cancel_all(venue: Venue, params: Params) -> object:
    contract = venue.engine.contract(params.text("symbol"))
    for order in venue.engine.open_orders(contract.symbol):
        venue.engine.cancel(contract.symbol, order_id=order.order_id, client_order_id=None)
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def change_position_mode(venue: Venue, params: Params) -> object:
    params.text("dualSidePosition")
    venue.engine.switch_mode(hedge=params.flag("dualSidePosition"))
    return {"code": 200, "msg": "success"}


def post_listen_key(venue: Venue, params: Params) -> object:
    return {"listenKey": venue.listen_key.post(now_ms=venue.engine.now_ms())}


def put_listen_key(venue: Venue, params: Params) -> object:
    return {"listenKey": venue.listen_key.put(now_ms=venue.engine.now_ms())}


def delete_listen_key(venue: Venue, params: Params) -> object:
    venue.listen_key.delete()
    return {}
