"""The programme: every scene in the order it is played, in words an operator would use."""

from __future__ import annotations

from typing import Final

from p33_sidecar.rehearsal.demo import scenes as play
from p33_sidecar.rehearsal.demo.scenes import Scene

PROGRAMME: Final = (
    Scene("normal-flow", "nothing: three symbols are closed through the whole path",
          "ALLOW, one order each, floored to the step",
          "a gate that denies everything is safe and useless", play.normal_flow),
    Scene("governor-denies", "the Governor refuses a plan that p33 allows",
          "no order, and neither permit is used up", "both have to agree", play.governor_denies),
    Scene("stale-exchange", "the exchange answers 502 until the snapshot is older than 2 s",
          "DENY stale_exchange_state; ALLOW once polls work again",
          "an old position is not the position", play.stale_exchange),
    Scene("vanished-position", "somebody closes the position by hand; the planner has not noticed",
          "DENY no_position", "a close order on a flat symbol could open one", play.vanished_position),
    Scene("side-flip", "somebody turns the long position into a short",
          "DENY reconcile_required_side_mismatch", "the order would go the wrong way", play.side_flip),
    Scene("quantity-drift", "the exchange holds 1.2 % more than our ledger; on another symbol exactly 1 %",
          "DENY reconcile_required_qty_mismatch; exactly 1 % passes",
          "an order of ours, or a stranger's, is not accounted for", play.quantity_drift),
    Scene("cooldown", "a second plan right after an order, published again later",
          "DENY cooldown_in_flight; ALLOW after 2 s",
          "the last order must be in every account before the next", play.cooldown),
    Scene("competing-plans", "two full closes of one position in the same instant",
          "one ALLOW and one order; the other is denied", "two orders would close it twice", play.competing_plans),
    Scene("forged-permit", "a bypass writes permits itself: unsigned, wrongly signed, and ahead of the real one",
          "refused forged_permit, no order; the real permit counts, with its own quantity",
          "who writes a key is not who may decide", play.forged_permit),
    Scene("exchange-hang", "polls get no answer at all",
          "ALLOW within 250 ms while the snapshot is fresh, then DENY stale_exchange_state",
          "a hanging poll must not hold up a verdict, nor make an old one", play.exchange_hang),
    Scene("throttled", "the exchange says 429, come back in 5 s",
          "DENY stale_exchange_state; no request for 5 s; then ALLOW",
          "who asks on is banned", play.throttled),
    Scene("kill-9", "kill -9 of the sidecar with an order on its way; a plan published while it is down",
          "one verdict each, the fill booked once, the missed plan not executed late",
          "a crash costs time, never an order", play.kill_9),
    Scene("ban", "the exchange bans our address (418), and the sidecar is killed and restarted meanwhile",
          "DENY stale_exchange_state, not one request; ALLOW when it is lifted",
          "every request makes a ban longer", play.ban),
    Scene("whole-run", "nothing: everything above is counted",
          "one verdict a publication, one order a permit", "the sum has to come out, too", play.whole_run),
)
NAMES: Final = tuple(scene.name for scene in PROGRAMME)
