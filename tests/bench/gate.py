"""`python -m tests.bench.gate`: how long a permit that appears takes to be taken, beside a bare reader.

The bare reader blocks on the same stream with the same library and runs one script of a single SET when the record
comes: what nobody on this machine can do faster. Both are measured in turn, in one run, from the moment the permit
appears (the server's clock, asked in the very step that issues) to the answer of the taking; the issuer is another
process, so that neither pays for it. Only the ratio counts.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import redis

from p33_sidecar.gate import Gate, Taken
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.gate.sidecar import KEY, SYMBOL, VENUE, Hand

BARE = "redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000) return {ARGV[1], ARGV[2]}"
RECORD = '{"v":1}' + " " * 2_900
"""About what a decision's record weighs."""
GRANTED = '{"granted":true}'
LATE = "Governor"
"""Plans whose Governor grants last, and wakes nobody."""
ISSUE_AFTER_S = 0.004
LOST_MS = 5_000


def issue(url: str) -> None:
    """The issuer: for each plan id on standard input both permits, after a moment, and when they were there."""
    client = redis.Redis.from_url(url, decode_responses=True, protocol=2)
    hand = Hand(client)
    hand.snapshot()
    hand.ledger()
    print("ready", flush=True)
    for line in sys.stdin:
        plan_id = line.strip()
        hand.snapshot()
        hand.govern(plan_id)
        step, _ = hand.prepare(hand.verdict(plan_id), record=RECORD)
        if plan_id.startswith(LATE):
            hand.redis.delete(keys.governor_permit(plan_id))
            step.execute()
            step = hand.redis.pipeline().set(keys.governor_permit(plan_id), GRANTED)
        time.sleep(ISSUE_AFTER_S)
        seconds, micros = step.time().execute()[-1]
        print(seconds * 1_000_000_000 + micros * 1_000, flush=True)


class Takers:
    """Both ways of taking, over a connection each."""

    def __init__(self, url: str) -> None:
        self.gate = Gate(url, key=(KEY,), venue=VENUE, by="bench")
        self.bare = redis.Redis.from_url(url, protocol=2, socket_timeout=30)
        self.sha = self.bare.script_load(BARE)

    def take_bare(self, plan_id: str) -> int:
        last = self.bare.xrevrange(keys.DECISIONS, count=1)
        self.bare.xread({keys.DECISIONS: last[0][0] if last else "0-0"}, block=LOST_MS)
        self.bare.evalsha(self.sha, 1, f"bench:{plan_id}", "token", "record")
        return time.time_ns()

    def take_gate(self, plan_id: str) -> int:
        answer = self.gate.take(plan_id, SYMBOL, entry_ms=0, wait_ms=LOST_MS)
        done_ns = time.time_ns()
        if not isinstance(answer, Taken):
            raise SystemExit(f"not taken: {answer}")
        return done_ns


def measure(url: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by taker, in turn."""
    issuer = subprocess.Popen([sys.executable, "-m", "tests.bench.gate", "--issue", url], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    issuer.stdout.readline()
    takers = Takers(url)
    ways = {"bare reader": takers.take_bare, "gate": takers.take_gate, f"{LATE} last": takers.take_gate}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, take in ways.items():
            plan_id = f"{name.replace(' ', '-')}-{number}"
            issuer.stdin.write(plan_id + "\n")
            issuer.stdin.flush()
            done_ns = take(plan_id)
            took[name].append((done_ns - int(issuer.stdout.readline())) / 1e6)
    issuer.stdin.close()
    issuer.wait()
    takers.gate.close()
    return took


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gate")
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--issue", metavar="URL", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.issue:
        issue(args.issue)
        return 0
    with EmbeddedServer() as server:
        took = measure(server.url, args.rounds)
    for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        bare, gate, late = (sorted(times)[int(len(times) * share)] for times in took.values())
        print(f"issued to taken, {label}: gate {gate:.3f} ms / bare reader {bare:.3f} ms = {gate / bare:.2f} x; "
              f"{late:.3f} ms where the Governor grants last")
    print(f"mean difference {statistics.mean(took['gate']) - statistics.mean(took['bare reader']):.3f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
