"""From the counts of all policies to one recommendation, or to the sentence that says why there is none.

A wrong allow weighs `weight` wrong denials; by default more than all verdicts together. Of equally good policies the
one that changes fewest thresholds is chosen, then the strictest. Nothing is recommended that `p33_policy_loosened`
would warn of, on too little data, or where the gain may be chance.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
import numpy as np

from p33_pipeline.review.grid import Counts, Grid
from p33_sidecar.core.model import Policy
from p33_sidecar.core.quantity import seconds, text

LEVEL: Final = "0.95"
LEAST_JUDGED: Final = 200
LEAST_BLOCKS: Final = 6
RESAMPLES: Final = 2_000
SEED: Final = 33
"""The resampling's: the same history gives the same interval."""

Place = tuple[int, int, int, int]


class Interval(msgspec.Struct, frozen=True):
    """How sure the figures of a policy are, at `level`: rates per 1,000 judged verdicts, as decimal text.

    `saved` is what changing to the policy saves, in wrong denials (a wrong allow counts `weight` of them), resampled
    over `blocks` hours, since verdicts of one hour are not independent.
    """

    level: str
    verdicts: int
    blocks: int
    weight: int
    wrong_allows_per_1000: tuple[str, str]
    wrong_denials_per_1000: tuple[str, str]
    saved_per_1000: tuple[str, str]


def best(counts: Counts, grid: Grid, *, own: Place, weight: int) -> Place:
    """The place that costs least among those that may be recommended, and its own place always may."""
    cost = weight * counts.wrong_allows + counts.wrong_denials
    index = np.indices(grid.shape).reshape(4, -1)
    flat = cost.reshape(-1).copy()
    flat[~_recommendable(grid, own).reshape(-1)] = np.iinfo(np.int64).max
    changed = (index != np.array(own).reshape(4, 1)).sum(axis=0)
    # Last key first: cost, fewest changes, then the strictest: young snapshots, close books, long rests, many polls.
    order = np.lexsort((index[0], -index[2], index[3], index[1], changed, flat))
    return tuple(int(axis) for axis in index[:, order[0]])


def _recommendable(grid: Grid, own: Place) -> np.ndarray:
    """Not loosened (contract, chapter 5: above max(3 polls, 10 s) or 30 s), or as it is now."""
    stale, poll = np.array(grid.stale_ms), np.array(grid.poll_ms)
    fine = stale[None, :] <= np.minimum(np.maximum(3 * poll[:, None], 10_000), 30_000)
    allowed = np.broadcast_to(fine[:, :, None, None], grid.shape).copy()
    allowed[own] = True
    return allowed


def frontier(counts: Counts) -> list[Place]:
    """The places that no other beats in both wrong allows and wrong denials, fewest wrong allows first."""
    allows, denials = counts.wrong_allows.reshape(-1), counts.wrong_denials.reshape(-1)
    places, least = [], np.iinfo(np.int64).max
    for flat in np.lexsort((denials, allows)):
        if denials[flat] < least:
            least = denials[flat]
            places.append(tuple(int(i) for i in np.unravel_index(flat, counts.wrong_allows.shape)))
    return places


def interval(hours: np.ndarray, *, judged: int, weight: int) -> Interval:
    """`hours`: for each hour (wrong allows, wrong denials) now and (wrong allows, wrong denials) then."""
    saved = weight * (hours[:, 0] - hours[:, 2]) + (hours[:, 1] - hours[:, 3])
    draws = np.random.default_rng(SEED).integers(0, len(hours), (RESAMPLES, len(hours)))
    sums = np.sort(saved[draws].sum(axis=1))
    tail = RESAMPLES // 40  # 2.5 % at either end
    ends = int(sums[tail]), int(sums[-1 - tail])
    return Interval(
        LEVEL, judged, len(hours), weight, _wilson(int(hours[:, 2].sum()), judged),
        _wilson(int(hours[:, 3].sum()), judged), tuple(_per_1000(Decimal(end), judged) for end in ends))


def why_too_little(judged: int, blocks: int) -> str | None:
    """The sentence for a history that carries no recommendation."""
    if judged < LEAST_JUDGED:
        return f"too little data: {judged} verdicts could be judged, {LEAST_JUDGED} are needed"
    if blocks < LEAST_BLOCKS:
        return f"too little data: the verdicts fall into {blocks} hours, {LEAST_BLOCKS} are needed"
    return None


def env_lines(policy: Policy) -> dict[str, str]:
    """The judged thresholds as lines of the env file."""
    return {
        "P33_POLL_SEC": text(seconds(policy.poll_ms)),
        "P33_STALE_THRESHOLD_SEC": text(seconds(policy.stale_threshold_ms)),
        "P33_COOLDOWN_SEC": text(seconds(policy.cooldown_ms)),
        "P33_QTY_TOLERANCE_PCT": text(policy.qty_tolerance_pct),
    }


def env_diff(now: Policy, then: Policy) -> str:
    """The change as a diff of the env file; empty for none."""
    old, new = env_lines(now), env_lines(then)
    return "".join(f"-{name}={old[name]}\n+{name}={new[name]}\n" for name in old if old[name] != new[name])


def _wilson(hits: int, of: int) -> tuple[str, str]:
    """Wilson's score interval of a share, per 1,000. The hits are counts, not quantities."""
    z = Decimal("1.959964")
    share, n = Decimal(hits) / of, Decimal(of)
    middle = share + z * z / (2 * n)
    reach = z * ((share * (1 - share) + z * z / (4 * n)) / n).sqrt()
    scale = 1 + z * z / n
    low, high = max((middle - reach) / scale, Decimal(0)), (middle + reach) / scale
    return (_rounded(low * 1000) if hits else "0"), _rounded(high * 1000)


def _per_1000(value: Decimal, of: int) -> str:
    return _rounded(value * 1000 / of)


def _rounded(value: Decimal) -> str:
    return text(value.quantize(Decimal("0.01")))
