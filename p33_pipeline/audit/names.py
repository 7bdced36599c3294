"""Which plan an order of ours belongs to, by the client id that the exchange's record gives it."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa

from p33_pipeline.audit.causes import OURS
from p33_pipeline.audit.scope import Scope, register, rows
from p33_sidecar.core.orders import client_order_id

_HASHED: Final = re.compile(re.escape(OURS) + r"[0-9a-f]{32}")
_PLANS: Final = "(SELECT plan_id FROM plans UNION ALL SELECT plan_id FROM taken)"


def plans_by_client_id(scope: Scope) -> dict[str, str]:
    """The plan of every client id of ours among the trades, as far as the archive knows it.

    The plans of a day are millions and the orders few: the orders' names are looked for among the plans. Only where one
    stands for a plan_id that the exchange's rule does not bear are such plans gone through.
    """
    names = [row["name"] for row in rows(scope, "SELECT DISTINCT client_order_id AS name FROM trades "
                                                "WHERE client_order_id LIKE $ours", ours=f"{OURS}%")]
    register(scope, "order_names", pa.table({"plan_id": pa.array([name[len(OURS):] for name in names], pa.string())}))
    found = _by_name(scope, "plan_id IN (SELECT plan_id FROM order_names)")
    if any(_HASHED.fullmatch(name) for name in names if name not in found):
        found |= _by_name(scope, f"NOT regexp_full_match('{OURS}' || plan_id, '[.A-Z:/a-z0-9_-]{{1,36}}')")
    return found


def _by_name(scope: Scope, which: str) -> dict[str, str]:
    found = rows(scope, f"SELECT DISTINCT plan_id FROM {_PLANS} WHERE {which}")  # noqa: S608 - conditions of ours
    return {client_order_id(row["plan_id"]): row["plan_id"] for row in found if row["plan_id"] is not None}
