"""Kinds of days: what may happen in a campaign, and how often against the rest."""

from __future__ import annotations

WEIGHTS = {
    "publish": 20, "again": 5, "decide": 18, "decide_disturbed": 6, "decide_killed": 2, "take": 9, "take_all": 2,
    "execute": 8, "send": 3, "tell": 4, "tell_again": 2, "hand": 3, "agree": 6, "halt": 1, "hold": 1, "clear": 9,
    "poll": 12, "book": 10, "tend": 4, "moment": 10, "while_": 12, "long": 2, "fail": 2, "ban": 1, "heal": 6, "lag": 2,
    "missing": 2, "hedge": 1, "restart": 3, "second_thoughts": 1, "save": 1, "crash": 0.3, "crash_amid_plans": 0.5,
    "flush": 0.3,
}
BUSY = {"publish": 4, "decide": 4, "take_all": 4, "execute": 4, "book": 3, "poll": 4, "moment": 2, "agree": 1,
        "second_thoughts": 2, "while_": 2, "hold": 1, "clear": 3}
"""Little goes wrong, and much is closed."""
SHAKY = {"publish": 4, "decide": 3, "poll": 3, "save": 1, "crash_amid_plans": 2, "moment": 1, "while_": 1, "agree": 1}
"""The server comes and goes."""
BLIND = {"publish": 3, "decide": 3, "take": 4, "fail": 1, "heal": 1, "while_": 2, "poll": 1, "agree": 1}
"""The exchange says little, and permits are taken late."""
DAYS = (BUSY, SHAKY, BLIND, WEIGHTS)
MISTIMED = BUSY | {"clock_set": 1.5, "clock_wrong": 3, "restart": 0.5, "fail": 0.5, "heal": 1}
"""Clocks are set, or wrong for a while."""
