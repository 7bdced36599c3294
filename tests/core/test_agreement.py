"""Whether two accounts agree: the page, the incidents and the audit say what the checks would say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.core.agreement import disagreement
from tests.core.made import facts, verdict

LONG = "123456789012345678.000000000001"


@pytest.mark.parametrize(("exchange", "ledger", "how"), [
    ("0.0500", "0.0495", None), ("0.0500", "0.0494", "quantity"), ("-0.0500", "-0.0505", None),
    ("0.05", "-0.05", "side"), ("0.05", "0", "quantity"), ("0", "0", None), ("0", "0.001", "quantity"),
    (LONG, "122222221122222221.22000000000099", None), (LONG, "122222221122222221.22000000000098", "quantity"),
])
def test_one_per_cent_of_the_exchange_exactly(exchange, ledger, how):
    """Exactly 1 % passes, whatever the signs and however many digits; and the checks agree."""
    assert disagreement(Decimal(exchange), Decimal(ledger), tolerance_pct=Decimal(1)) == how
    said = verdict(facts(amt=exchange, ledger=ledger)) if Decimal(exchange) else ""
    assert ("mismatch" in said) == (how is not None and Decimal(exchange) != 0), said
