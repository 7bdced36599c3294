"""Every reason a plan can be denied for: its name on the wire, what it means, what the operator does.

The docs' table, the metric labels and the runbook list are generated from here. A reason is never
removed or renamed without a new version of the contract.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Wire name of a denial. `.meaning`, `.remedy` and `.retryable` say the rest."""

    meaning: str
    remedy: str
    retryable: bool

    def __new__(cls, name: str, meaning: str, remedy: str, retryable: bool = True) -> Reason:
        self = str.__new__(cls, name)
        self._value_ = name
        self.meaning, self.remedy, self.retryable = meaning, remedy, retryable
        return self

    __hash__ = str.__hash__  # equal to its wire name, and found under it: an Enum's own hash is that of another name

    SYMBOL_NOT_ALLOWED = (
        "symbol_not_allowed", "The symbol is neither in P33_ALLOWLIST nor has it a position.",
        "Add it to P33_ALLOWLIST if the stack may close it.", False)
    PLAN_EXPIRED = (
        "plan_expired", "The plan is older than P33_PLAN_MAX_AGE_SEC, or a younger result already answered it.",
        "Publish a fresh plan; see why it waited (`p33 explain`).", False)
    PLAN_SUPERSEDED = (
        "plan_superseded", "The plan was decided before the symbol's last order.",
        "Nothing: the planner sees the new position and plans again.", False)
    UNSUPPORTED_ACTION = (
        "unsupported_action", "The action is unknown or does not close a position.",
        "Only the closing actions of the contract pass this gate.", False)
    ACTION_STEP_MISMATCH = (
        "action_step_mismatch", "Action, steps, close_qty and side do not say the same thing, or cannot be read.",
        "Mend the producer of the plan.", False)
    CLOCK_SKEW = (
        "clock_skew", "The plan or the snapshot lies in the future.",
        "Compare the clocks of the hosts with Redis' TIME.")
    HALTED = (
        "halted", "quantum:p33:halt, or the symbol's halt key, exists.",
        "`p33 resume` when the cause is gone; `p33 status` says who halted and why.")
    RECONCILE_HOLD_ACTIVE = (
        "reconcile_hold_active", "quantum:reconcile:hold:<symbol> exists.",
        "The reconciliation that set it removes it.")
    VENUE_MISMATCH = (
        "venue_mismatch", "This database belongs to another exchange.",
        "One database per exchange: point REDIS_URL or P33_EXCHANGE_URL right.")
    STORE_RESTARTED = (
        "store_restarted", "The Redis server restarted and may have lost its last writes.",
        "Wait one cooldown; it clears with the next poll after it.")
    EXCHANGE_UNCONFIGURED = (
        "exchange_unconfigured", "There are no credentials for the exchange.",
        "Set BINANCE_API_KEY and BINANCE_API_SECRET (read-only is enough).")
    HEDGE_MODE_UNSUPPORTED = (
        "hedge_mode_unsupported", "The account reports LONG/SHORT legs for the symbol.",
        "Switch the account to one-way mode; legs are never netted here.")
    NO_SYMBOL_FILTERS = (
        "no_symbol_filters", "The exchange's symbol list lacks the symbol or its lot filters.",
        "Check the symbol's name and that it trades on this exchange.")
    SYMBOL_NOT_TRADING = (
        "symbol_not_trading", "The exchange does not report the symbol as TRADING.",
        "Wait, or close by hand at the exchange.")
    NO_EXCHANGE_SNAPSHOT = (
        "no_exchange_snapshot", "The exchange's position is unknown.",
        "Look at p33_snapshot_total and the sidecar's log for the failing request.")
    STALE_EXCHANGE_STATE = (
        "stale_exchange_state", "The newest snapshot is older than the stale threshold.",
        "Look at p33_snapshot_total{status=\"error\"}: the exchange is slow, failing or has banned us.")
    NO_POSITION = (
        "no_position", "The exchange's position is below one step: there is nothing to close.",
        "Nothing, unless the plan keeps coming: then the planner works on old data.")
    LEDGER_TAMPERED = (
        "ledger_tampered", "Somebody else changed the ledger's hash.",
        "Find the writer, then `p33 ledger adopt SYMBOL --reason ...`.")
    LEDGER_GAP = (
        "ledger_gap", "The result stream was trimmed or deleted past our cursor: fills may be missing.",
        "It ends when a newer snapshot equals the book, or with `p33 ledger adopt`.")
    LEDGER_MISSING = (
        "ledger_missing", "There is no book for the symbol.",
        "With P33_LEDGER_BOOTSTRAP=adopt wait two polls, else `p33 ledger adopt SYMBOL --reason ...`.")
    RECONCILE_REQUIRED_SIDE_MISMATCH = (
        "reconcile_required_side_mismatch", "Book and exchange stand on opposite sides.",
        "`p33 ledger show SYMBOL`, find the missing order, then adopt or adjust.")
    RECONCILE_REQUIRED_QTY_MISMATCH = (
        "reconcile_required_qty_mismatch", "Book and exchange differ by more than the tolerance.",
        "`p33 ledger show SYMBOL`, find the missing order, then adopt or adjust.")
    COOLDOWN_IN_FLIGHT = (
        "cooldown_in_flight", "The last order is still settling.",
        "Nothing: publish the plan again after retry_after_sec.")
    PERMIT_OUTSTANDING = (
        "permit_outstanding", "Another permit for the symbol is open or taken.",
        "Nothing: publish the plan again after retry_after_sec.")
    QTY_BELOW_MIN = (
        "qty_below_min", "What may be closed is below the exchange's minimum after flooring to the step.",
        "Dust: close it in full or by hand.")
    EVALUATION_ERROR = (
        "evaluation_error", "The evaluation itself failed.",
        "Read the sidecar's log; report it as a defect with `p33 explain PLAN_ID`.")


FINAL: Final[frozenset[str]] = frozenset(reason for reason in Reason if not reason.retryable)
"""After these the same plan can never pass."""


class Refusal(StrEnum):
    """Why an Apply Layer may not take a permit pair, in the order of precedence (contract, chapter 4)."""

    REDIS_UNAVAILABLE = "redis_unavailable"
    ALREADY_CONSUMED = "already_consumed"
    HALTED = "halted"
    RECONCILE_HOLD_ACTIVE = "reconcile_hold_active"
    MISSING_GOVERNOR_PERMIT = "missing_governor_permit"
    GOVERNOR_DENIED = "governor_denied"
    MISSING_P33_PERMIT = "missing_p33_permit"
    INVALID_PERMIT_TYPE = "invalid_permit_type"
    FORGED_PERMIT = "forged_permit"
    P33_DENIED = "p33_denied"
    EXPIRED_PERMIT = "expired_permit"
    PLAN_MISMATCH = "plan_mismatch"
    SYMBOL_MISMATCH = "symbol_mismatch"
    VENUE_MISMATCH = "venue_mismatch"
    INVALID_QUANTITY = "invalid_quantity"
    WITHDRAWN = "withdrawn"
    FACTS_CHANGED = "facts_changed"
