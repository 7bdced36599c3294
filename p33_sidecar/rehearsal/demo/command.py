"""The command: start the stack, play the programme, say what was right, leave nothing behind.

Exit codes: 0 every verdict was the right one, 1 one was not, 2 wrong usage, 69 the stack did not start,
130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec
import redis

from p33_sidecar.rehearsal.demo.judge import Judge, Line
from p33_sidecar.rehearsal.demo.programme import NAMES, PROGRAMME
from p33_sidecar.rehearsal.demo.scenes import POSITIONS, SETTINGS, Scene
from p33_sidecar.rehearsal.demo.table import Teller, teller
from p33_sidecar.rehearsal.plan_source import Planner
from p33_sidecar.rehearsal.ports import port_number
from p33_sidecar.rehearsal.processes import ProcessFailed
from p33_sidecar.rehearsal.server import ServerMissing
from p33_sidecar.rehearsal.stack import PAGE_PORT, Stack, inherited

WRONG, UNAVAILABLE, INTERRUPTED, TERMINATED = 1, 69, 130, 143


class Played(msgspec.Struct, frozen=True):
    """A scene that is over."""

    name: str
    injected: str
    right_answer: str
    why: str
    ok: bool
    took_ms: int
    lines: list[Line]


class Summary(msgspec.Struct, frozen=True):
    """What `--json` prints. `logs` is where the processes' logs lie, only where something was wrong."""

    ok: bool
    took_ms: int
    page_url: str
    settings: dict[str, str]
    scenes: list[Played]
    logs: str | None = None


def main(args: list[str]) -> int:
    """Play the demo; returns the exit code."""
    options = _parser().parse_args(args)
    before = signal.signal(signal.SIGTERM, _terminate)
    out = sys.stderr if options.json else sys.stdout
    try:
        return _run(options, teller(out))
    except KeyboardInterrupt:
        print("\nstopped", file=out)
        return INTERRUPTED
    except (ProcessFailed, ServerMissing, RuntimeError) as error:
        print(f"the stack did not start: {error}", file=sys.stderr)
        return UNAVAILABLE
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(options: argparse.Namespace, tell: Teller) -> int:
    begun_s = time.monotonic()
    stack = Stack(positions=POSITIONS, settings=SETTINGS, page_port=options.port)
    tell.say("starting: embedded server, simulated exchange, Governor, sidecar, Apply Layer, plan source")
    with stack:
        _introduce(stack, options.port, tell)
        with tell:
            played = [_play(scene, number, len(options.scenes), stack, tell, timed=not options.untimed)
                      for number, scene in enumerate(options.scenes, 1)]
        took_ms = _ms_since(begun_s)
        ok = all(scene.ok for scene in played)
        stack.keep_files = not ok
        summary = Summary(ok, took_ms, stack.page_url, SETTINGS, played, None if ok else str(stack.directory))
        _conclude(summary, tell, as_json=options.json)
        ok = (not options.audit or _audited(stack, tell)) and ok
        if options.keep:
            _keep(stack, tell)
    return 0 if ok else WRONG


def _play(scene: Scene, number: int, count: int, stack: Stack, tell: Teller, *, timed: bool) -> Played:
    begun_s = time.monotonic()
    tell.begin(scene, number, count)
    judge = Judge(stack, tell.line, timed=timed)
    try:
        scene.play(stack, judge)
    except (TimeoutError, ProcessFailed, redis.RedisError, httpx.HTTPError) as error:
        judge.holds("the scene was played to its end", False, otherwise=f"cut short: {error}")
        stack.door.move("clear")
    took_ms = _ms_since(begun_s)
    tell.end(took_ms=took_ms)
    ok = bool(judge.lines) and all(line.right for line in judge.lines)
    return Played(scene.name, scene.injected, scene.right, scene.why, ok, took_ms, judge.lines)


def _introduce(stack: Stack, wanted_port: int, tell: Teller) -> None:
    got_it = not wanted_port or stack.page_url.endswith(f":{wanted_port}")
    elsewhere = "" if got_it else f"  (port {wanted_port} is taken)"
    tell.say(f"page: {stack.page_url}{elsewhere}")
    tell.say("shortened for the demo: " + " ".join(f"{name}={value}" for name, value in SETTINGS.items()) + "\n")


def _conclude(summary: Summary, tell: Teller, *, as_json: bool) -> None:
    wrong = [scene.name for scene in summary.scenes if not scene.ok]
    tell.say(f"\n{len(summary.scenes) - len(wrong)} of {len(summary.scenes)} scenes right"
             f" in {summary.took_ms / 1000:.0f} s" + (f"; wrong: {', '.join(wrong)}" if wrong else ""))
    if summary.logs:
        tell.say(f"logs: {summary.logs}")
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode(), flush=True)


def _audited(stack: Stack, tell: Teller) -> bool:
    """The pipeline over what just happened, in a process of its own; whether it could be done."""
    if importlib.util.find_spec("p33_pipeline") is None:
        tell.say("no audit: the pipeline is not installed (p33[pipeline])")
        return True
    tell.say("archiving and auditing what just happened, as a Dagster run")
    history = Path("history") / f"demo-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    done = subprocess.run([sys.executable, "-m", "p33_pipeline.closing", str(history.absolute()), ".dagster"],
                          env={**inherited(), **stack.environment()}, capture_output=True, text=True, check=False)
    tell.say((done.stdout if done.returncode == 0 else f"the audit failed: {done.stderr[-600:]}").strip())
    return done.returncode == 0


def _keep(stack: Stack, tell: Teller) -> None:
    """Plans go on until Ctrl-C. Raises ProcessFailed if a process ends."""
    tell.say(f"everything runs; plans keep coming. page: {stack.page_url}   Ctrl-C ends it")
    tell.say(f"p33 on this stack: REDIS_URL={stack.server.url} P33_EXCHANGE_URL={stack.exchange_url} p33 status")
    planner = Planner(stack.server.url, stack.door.positions, stream=stack.plan_stream).start()
    try:
        while True:
            stack.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        tell.say("\nstopping")
    finally:
        planner.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p33 demo",
                                     description="The whole gate, with everything going wrong in turn.")
    parser.add_argument("--keep", action="store_true", help="keep everything running until Ctrl-C")
    parser.add_argument("--audit", action="store_true", help="end with a Dagster run over what happened (./history)")
    parser.add_argument("--json", action="store_true", help="a summary for programs on stdout, progress on stderr")
    parser.add_argument("--untimed", action="store_true", help="show how long a verdict took, and do not judge it")
    parser.add_argument("--scenes", type=_scenes, default=PROGRAMME, metavar="A,B", help=", ".join(NAMES))
    parser.add_argument("--port", type=port_number, default=PAGE_PORT, help=f"of the page (default {PAGE_PORT})")
    return parser


def _scenes(text: str) -> Sequence[Scene]:
    wanted = [name.strip() for name in text.split(",")]
    if unknown := [name for name in wanted if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"no scene {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return [scene for scene in PROGRAMME if scene.name in wanted]


def _terminate(*_: object) -> None:
    raise SystemExit(TERMINATED)


def _ms_since(begun_s: float) -> int:
    return int((time.monotonic() - begun_s) * 1000)
