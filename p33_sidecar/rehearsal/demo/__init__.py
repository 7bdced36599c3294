"""`p33 demo`: the whole gate on an embedded server and a simulated exchange, with everything going wrong in turn.

How it fits together: `command` (arguments, start, end) → `scenes` (what is injected, what the right answer is and
why) → `judge` (what Redis and the exchange's own book say, compared with that) → `table` (how it is told).
"""

from p33_sidecar.rehearsal.demo.command import main

__all__ = ["main"]
