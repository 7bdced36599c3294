"""`p33 proof --scenarios`: the denial cases, injected on a simulated exchange beside the running installation.

It is the installed code with a server, an exchange and ports of its own; what may not happen here is a word to the
installation's Redis or exchange. The scenes and what is right about them are the demo's.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, Final

import msgspec

from ...errors import P33Error
from ...rehearsal import demo
from .. import paper

SCENES: Final = ("normal-flow", "governor-denies", "stale-exchange", "vanished-position", "side-flip",
                 "quantity-drift", "cooldown", "competing-plans", "forged-permit", "exchange-hang")


class NotPlayed(P33Error):
    """The simulation did not start."""


def play(*, scenes: str, as_json: bool) -> int:
    """Play them; every verdict is judged. 0: each was the right one."""
    args = ["--json", "--untimed", "--port", "0", "--scenes", scenes or ",".join(SCENES)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = demo.main(args)
    try:
        summary = msgspec.json.decode(said.getvalue(), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise NotPlayed(f"the scenarios were not played to their end (exit code {code})") from None
    played = [{"name": scene["name"], "ok": scene["ok"], "injected": scene["injected"],
               "right_answer": scene["right_answer"], "found": [line["what"] for line in scene["lines"]]}
              for scene in summary["scenes"]]
    if as_json:
        paper.emit({"ok": summary["ok"], "took_ms": summary["took_ms"], "scenarios": played})
        return 0 if summary["ok"] else 1
    rows = [(paper.cell("ok" if s["ok"] else "FAIL", paper.GOOD if s["ok"] else paper.BAD), s["name"],
             s["right_answer"], "\n".join(s["found"]) if not s["ok"] else "") for s in played]
    paper.console().print(paper.table("Denial cases on a simulated exchange", ("", "scenario", "right", "found"), rows))
    return 0 if summary["ok"] else 1
