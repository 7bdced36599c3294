"""How the demo is told: on a terminal by a table that is redrawn from a thread of its own, in a pipe by plain lines."""

from __future__ import annotations

import io

from p33_sidecar.rehearsal.demo.judge import Line
from p33_sidecar.rehearsal.demo.scenes import Scene
from p33_sidecar.rehearsal.demo.table import RIGHT, WRONG, Teller, teller

FIRST = Scene("stale exchange", "no reply for 11 s", "DENY", "an old position is not a position", lambda *_: None)
SECOND = Scene("forged permit", "a HASH at the key", "refused", "anybody could write it", lambda *_: None)


class Terminal(io.StringIO):
    """What says of itself that a person looks at it."""

    def isatty(self) -> bool:
        return True


def _tell(story: Teller) -> None:
    with story:
        story.say("the house stands")
        story.begin(FIRST, 1, 2)
        story.line(Line("DENY stale_exchange_state", right=True, orders=0))
        story.end(took_ms=1234)
        story.begin(SECOND, 2, 2)
        story.line(Line("taken", right=False, hint="see the gate"))
        story.end(took_ms=10)


def test_a_terminal_gets_a_table_with_a_row_for_each_scene() -> None:
    """From before the first scene to after the last: the picture is drawn while it is being set up, too."""
    _tell(teller(out := Terminal()))
    told = out.getvalue()
    assert all(part in told for part in ("the house stands", "what was injected", "stale exchange", "1.2 s", RIGHT,
                                         "forged permit", WRONG, "see the gate"))


def test_a_pipe_gets_plain_lines() -> None:
    """Nothing that moves the cursor, and every line whole."""
    _tell(teller(out := io.StringIO()))
    assert "\x1b" not in out.getvalue()
    assert "    ok    DENY stale_exchange_state  [orders: 0]\n" in out.getvalue()
    assert "    WRONG taken\n" in out.getvalue()
