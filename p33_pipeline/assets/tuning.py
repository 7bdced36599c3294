"""The threshold review: which policy would have served better. It recommends; nothing here changes a setting."""

import time
from datetime import UTC, datetime
from decimal import Decimal

import dagster as dg
from pydantic import Field

from p33_pipeline.assets.archive import stream_archive
from p33_pipeline.assets.common import COMMON
from p33_pipeline.assets.reports import mismatch_report
from p33_pipeline.ranges import moment
from p33_pipeline.render.markdown import picture, table
from p33_pipeline.render.page import money, span
from p33_pipeline.resources import P33, sentences
from p33_pipeline.review.command import review_range
from p33_pipeline.review.output import write_page
from p33_pipeline.review.page import frontier_svg
from p33_pipeline.review.review import Outcome, Parameters, Review
from p33_sidecar.core.quantity import parse

DAY_MS = 86_400_000


class ReviewConfig(dg.Config):
    """The range to judge and what may be turned."""

    last_days: int = Field(default=7, ge=1, le=366, description="Days up to now, unless from_time is given")
    from_time: str = Field(default="", description="ISO 8601, UTC; empty: `last_days` before the end")
    to_time: str = Field(default="", description="ISO 8601, UTC; empty: now")
    weight: int = Field(default=0, ge=0, le=10**9, description="How many wrong denials a wrong allow weighs; 0: more "
                                                               "than all verdicts together")
    material_pct: str = Field(default="5", description="How far a book may be off the truth, in percent, before an "
                                                       "ALLOW on it is wrong")

    def range_ms(self, now_ms: int) -> tuple[int, int]:
        """(from, to). Raises ValueError for a range that is none."""
        to_ms = moment(self.to_time) if self.to_time else now_ms
        from_ms = moment(self.from_time) if self.from_time else to_ms - self.last_days * DAY_MS
        if from_ms >= to_ms:
            raise ValueError("from_time is not before to_time")
        return from_ms, to_ms

    def parameters(self) -> Parameters:
        pct = parse(self.material_pct)
        if not 0 <= pct <= 100:
            raise ValueError("material_pct: a percentage from 0 to 100")
        return Parameters(weight=self.weight, material_pct=Decimal(pct))


@dg.asset(group_name="tuning", kinds={"duckdb", "html"}, deps=[stream_archive, mismatch_report], **COMMON,
          description="Every verdict against the truth in hindsight, every policy of a grid judged by it: where the "
                      "present thresholds stand, which would serve better and how sure that is. It never applies any.")
def threshold_review(context: dg.AssetExecutionContext, config: ReviewConfig, p33: P33) -> dg.MaterializeResult:
    with sentences():
        settings, history = p33.settings(), p33.history()
        from_ms, to_ms = config.range_ms(time.time_ns() // 1_000_000)
        found = review_range(history, from_ms=from_ms, to_ms=to_ms, fallback=settings.policy,
                             parameters=config.parameters())
        html = write_page(found, history)
    context.log.info("%s", _sentence(found))
    return dg.MaterializeResult(metadata=_metadata(found, html))


def _sentence(found: Review) -> str:
    if found.recommended is None:
        return f"No change is recommended: {found.why_not}."
    return (f"A change is recommended: {found.best.wrong_allows} wrong allows instead of {found.current.wrong_allows}, "
            f"{found.best.wrong_denials} wrong denials instead of {found.current.wrong_denials}.")


def _metadata(found: Review, html: str) -> dict[str, dg.MetadataValue | int]:
    outcomes = [("in force", found.current)] + ([("best of the grid", found.best)] if found.best else [])
    return {
        "summary": dg.MetadataValue.md(_sentence(found)), "report": dg.MetadataValue.path(html),
        "range": dg.MetadataValue.text(f"{_day(found.from_ms)} to {_day(found.to_ms)}"),
        "verdicts": found.verdicts, "judged": found.judged,
        "outcomes": dg.MetadataValue.md(table(
            ("policy", "wrong allows", "USDT", "wrong denials", "lost"), [_row(*named) for named in outcomes])),
        "env_diff": dg.MetadataValue.md(f"```diff\n{found.env_diff}```" if found.env_diff else "no change"),
        "frontier": dg.MetadataValue.md(picture(frontier_svg(found), "wrong allows over wrong denials")),
    }


def _row(name: str, outcome: Outcome) -> tuple[object, ...]:
    return (name, outcome.wrong_allows, money(outcome.wrong_cents), outcome.wrong_denials, span(outcome.lost_ms))


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M")
