"""The review as its readers get it: the contract's JSON (chapter 8) and the page beside the archive.

Policies stand as in the records: thresholds under their names there, the tolerance as text. Counts are numbers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from p33_pipeline.history import History
from p33_pipeline.ranges import stamp
from p33_pipeline.review.page import page
from p33_pipeline.review.review import Outcome, Review
from p33_sidecar.core.model import Policy
from p33_sidecar.core.record import value_json

FOLDER = "reports"
COUNTS = ("wrong_allows", "wrong_denials", "right_allows", "right_denials")


def write_page(review: Review, history: History) -> str:
    """Put the page beside the archive; its absolute path or URL. The same range is the same file."""
    path = f"{FOLDER}/review-{stamp(review.from_ms)}-{stamp(review.to_ms)}.html"
    history.place.write(path, page(review))
    return f"{history.place}/{path}"


def as_json(review: Review, *, html: str) -> dict[str, Any]:
    """What `p33-review --json` prints."""
    best = review.recommended
    return {
        "from_ms": review.from_ms, "to_ms": review.to_ms, "verdicts": review.verdicts, "judged": review.judged,
        "current": _counts(review.current),
        "recommended": None if best is None else _full(best) | {"interval": msgspec.to_builtins(review.interval)},
        "why_not": review.why_not,
        "frontier": [_full(outcome) for outcome in review.frontier],
        "flips": [{"plan_id": flip.plan_id, "was": flip.was, "becomes": flip.becomes, "right": flip.right}
                  for flip in review.flips] if best else [],
        "env_diff": review.env_diff,
        "report": {"html": html},
    }


def policy_json(policy: Policy) -> dict[str, Any]:
    """All thresholds, as a record writes them."""
    return msgspec.json.decode(value_json(policy))


def _counts(outcome: Outcome) -> dict[str, Any]:
    return {"policy": policy_json(outcome.policy)} | {name: getattr(outcome, name) for name in COUNTS}


def _full(outcome: Outcome) -> dict[str, Any]:
    cents = outcome.wrong_cents
    return _counts(outcome) | {"wrong_usdt": f"{cents // 100}.{cents % 100:02}", "lost_ms": outcome.lost_ms}
