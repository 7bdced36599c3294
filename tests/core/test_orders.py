"""The names of an order: its client id at the exchange, and every name that leads to one fill."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.core.orders import client_order_id, may_be_same, order_names


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128))
def test_client_ids_obey_the_exchange_and_differ(plan_id):
    """Every plan id becomes a legal client id, its own where it fits."""
    made = client_order_id(plan_id)
    assert re.fullmatch(r"[.A-Z:/a-z0-9_-]{1,36}", made)
    assert made == f"p33-{plan_id}" or len(made) == 36


def test_the_surest_name_comes_first():
    """Order id, client id, plan and step, and a plan's only order without its step."""
    names = order_names(order_id="7", client_id="p33-p", plan_id="p", step="CLOSE", only_step=True)
    assert names == ("id 7", "client p33-p", "plan p CLOSE", "plan p ")
    assert order_names(order_id="", client_id="", plan_id="p", step="CLOSE", only_step=False) == ("plan p CLOSE",)
    assert order_names(order_id="7", client_id="", plan_id="", step="CLOSE", only_step=True) == ("id 7",)


@pytest.mark.parametrize(("mine", "other", "same"), [
    (("7", "", "A"), ("7", "x", "B"), True), (("7", "", "A"), ("8", "", "A"), False),
    (("", "", "A"), ("7", "", "A"), True), (("", "c", "A"), ("7", "d", "A"), False),
    (("", "c", "A"), ("", "c", "B"), True),
    (("", "", "A"), ("", "", "B"), False), (("", "", ""), ("7", "c", "A"), True),
])
def test_the_surest_thing_both_say_decides(mine, other, same):
    """An id that only one of them knows decides nothing."""
    assert may_be_same(mine, other) is may_be_same(other, mine) is same
