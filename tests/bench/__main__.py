"""`make bench`: what the gate costs, as ratios against a null consumer measured in the same run.

One server, rounds interleaved; the one that is not measured is stopped (SIGSTOP) so that it costs nothing.
`--quick` is the short form the tests run. Latencies are milliseconds from before the publishing to the record's
arrival at a reader, so they contain both network legs and this process's own waking up, on both sides alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import urllib.request

import msgspec
import redis

from p33_sidecar.rehearsal.exchange.sim import REHEARSAL_KEY, REHEARSAL_SECRET
from p33_sidecar.rehearsal.exchange.symbols import load_contracts
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.bench.load import NULL, SIDECAR, Outcome, burst, steady
from tests.bench.processes import Process, Sidecar

POSITIONS = 50
SYMBOLS, MOST_SYMBOLS = 600, 700


class Bench:
    """One run: the processes, and what was measured."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.symbols: list[str] = []
        self.failures: list[str] = []
        self.report: dict = {}

    def run(self) -> int:
        with EmbeddedServer(tcp=True) as server:
            self.server = server
            self.url = server.url
            self._start_exchange(SYMBOLS)
            null = Process("tests.bench.null", self.url)
            null.line()
            sidecar = self._sidecar()
            try:
                self._start(sidecar)
                self._rest(sidecar)
                self._rounds(null, sidecar)
                self._snapshots()
            finally:
                sidecar.end()
                null.release()
                null.popen.kill()
            self.exchange.end()
            self._start_exchange(MOST_SYMBOLS)
            self._independence()
            self.exchange.end()
        if self.args.json:
            print(msgspec.json.encode(self.report).decode())
        for failure in self.failures:
            print(f"FAILED  {failure}")
        return 1 if self.failures else 0

    # -- parts ------------------------------------------------------------------------------------------------

    def _start_exchange(self, symbols: int) -> None:
        self.exchange = Process("p33_sidecar.rehearsal.exchange", "--symbols", str(symbols), "--latency-ms", "5",
                                *self._positions())
        self.exchange_url = msgspec.json.decode(self.exchange.line())["url"]

    def _positions(self) -> list[str]:
        self.symbols = list(load_contracts(POSITIONS))
        return [part for symbol in self.symbols for part in ("--position", f"{symbol}=1000")]

    def _sidecar(self, **settings: str) -> Sidecar:
        return Sidecar(redis_url=self.url, exchange_url=self.exchange_url, key=REHEARSAL_KEY, secret=REHEARSAL_SECRET,
                       **settings)

    def _start(self, sidecar: Sidecar) -> None:
        took = sidecar.wait_ready()
        self._say("start to ready, 600 symbols", f"{took:.2f} s", "goal: under 1 s plus one poll (5 s)")

    def _rest(self, sidecar: Sidecar) -> None:
        oldest_ms = self._oldest_ms(for_s=self.args.rest)  # a first poll or two, so that what follows is rest
        before, start = sidecar.cpu_s(), time.perf_counter()
        time.sleep(self.args.rest)
        share = (sidecar.cpu_s() - before) / (time.perf_counter() - start) * 100
        self._say("CPU at rest, 600 symbols, 5 s polls", f"{share:.2f} % of a core", "goal: under 1 %")
        self._say("oldest snapshot, 5 s polls", f"{oldest_ms} ms, replies within {self._slowest_reply_ms()} ms",
                  "goal: poll + reply + 50 ms")
        self._say("memory at rest", f"{sidecar.rss_mb():.1f} MB", "")

    def _rounds(self, null: Process, sidecar: Sidecar) -> None:
        steadies: dict[tuple[str, int], list[Outcome]] = {}
        bursts: dict[str, list[float]] = {}
        memory: list[float] = []
        for number in range(self.args.rounds):
            for target, runs, waits in ((NULL, null, sidecar), (SIDECAR, sidecar, null)):
                waits.hold()
                runs.release()
                if target is SIDECAR:
                    self._fresh(sidecar)
                for rate in (20, 200):
                    outcome = steady(self.url, target, rate=rate, seconds=self.args.seconds, symbols=self.symbols,
                                     tag=f"s{number}-{rate}")
                    steadies.setdefault((target.name, rate), []).append(outcome)
                    self._check(f"{target.name} at {rate}/s", outcome)
                outcome = burst(self.url, target, count=self.args.burst, symbols=self.symbols, tag=f"b{number}",
                                hold=runs.hold, release=runs.release)
                self._check(f"{target.name}, burst", outcome)
                bursts.setdefault(target.name, []).append(self.args.burst / outcome.seconds)
                waits.release()
            memory.append(sidecar.rss_mb())
        self._latencies(steadies)
        self._throughput(bursts)
        self._say("memory after each burst", ", ".join(f"{mb:.1f}" for mb in memory) + " MB",
                  "goal: under 48 MB and not growing")

    def _age_ms(self, client: redis.Redis) -> int:
        """Of a snapshot, by the server's clock."""
        seconds, micros = client.time()
        return seconds * 1000 + micros // 1000 - int(client.hget(keys.snapshot(self.symbols[-1]), "ts_ms") or 0)

    def _oldest_ms(self, *, for_s: float) -> int:
        """The greatest age met by looking every 5 ms."""
        client, oldest_ms, until = redis.Redis.from_url(self.url), 0, time.perf_counter() + for_s
        while time.perf_counter() < until:
            oldest_ms = max(oldest_ms, self._age_ms(client))
            time.sleep(0.005)
        return oldest_ms

    def _slowest_reply_ms(self) -> int:
        entries = redis.Redis.from_url(self.url).xrange(keys.SNAPSHOTS)
        polls = [msgspec.json.decode(fields[b"json"]) for _, fields in entries]
        return max(poll["received_ms"] - poll["requested_ms"] for poll in polls)

    def _fresh(self, sidecar: Sidecar) -> None:
        """After a pause the first thing is a poll; verdicts on stale snapshots are not what is measured."""
        deadline = time.perf_counter() + 10
        client = redis.Redis.from_url(self.url, decode_responses=True)
        while time.perf_counter() < deadline:
            if self._age_ms(client) < 4000:
                return
            time.sleep(0.02)

    def _latencies(self, steadies: dict[tuple[str, int], list[Outcome]]) -> None:
        for rate in (20, 200):
            rows = {name: [x for o in steadies[name, rate] for x in o.latencies_ms] for name in
                    (NULL.name, SIDECAR.name)}
            for label, share, goal in (("p50", 0.5, "goal: within 1.3 x"), ("p99", 0.99, "goal: within 2 x"),
                                       ("p99.9", 0.999, "")):
                a, b = (_quantile(rows[name], share) for name in (NULL.name, SIDECAR.name))
                self._say(f"plan to permit at {rate}/s, {label}", f"{b:.3f} ms / {a:.3f} ms = {b / a:.2f} x", goal)

    def _throughput(self, bursts: dict[str, list[float]]) -> None:
        a, b = (statistics.median(bursts[name]) for name in (NULL.name, SIDECAR.name))
        self._say(f"burst of {self.args.burst} plans", f"{b:.0f}/s / {a:.0f}/s = {b / a:.2f} x", "goal: at least 0.5 x")

    def _snapshots(self) -> None:
        client = redis.Redis.from_url(self.url, decode_responses=True)
        polls = [msgspec.json.decode(f["json"]) for _, f in client.xrange(keys.SNAPSHOTS)]
        good = [p for p in polls if p["outcome"] == "ok"]
        counts = _sim(self.exchange_url, "state?log=0")["requests"]["counts"]
        asked = sum(n for endpoint, n in counts.items() if "positionRisk" in endpoint)
        self._say("requests for positions / polls recorded", f"{asked} / {len(polls)} ({len(good)} good)",
                  "goal: one request a poll")

    def _independence(self) -> None:
        """The same load with 1, 50 and all symbols, and while the exchange takes 1 s and 10 s to answer."""
        base = None
        for label, allowlist, latency_ms in (("1 symbol in scope", self.symbols[0], 5),
                                             ("50 symbols", ",".join(self.symbols), 5), ("700 symbols", "*", 5),
                                             ("700 symbols, exchange answers after 1 s", "*", 1000),
                                             ("700 symbols, exchange answers after 10 s", "*", 10_000)):
            redis.Redis.from_url(self.url).flushall()
            _sim(self.exchange_url, "latency", {"ms": 5})
            sidecar = self._sidecar(P33_ALLOWLIST=allowlist)
            try:
                sidecar.wait_ready()
                _sim(self.exchange_url, "latency", {"ms": latency_ms})
                outcome = steady(self.url, SIDECAR, rate=100, seconds=min(self.args.seconds, 4.0),
                                 symbols=self.symbols, tag=f"i{latency_ms}")
            finally:
                _sim(self.exchange_url, "latency", {"ms": 5})
                sidecar.end()
            self._check(label, outcome)
            p50, p99 = _quantile(outcome.latencies_ms, 0.5), _quantile(outcome.latencies_ms, 0.99)
            base = base or p50
            self._say(f"at 100/s, {label}", f"p50 {p50:.3f} ms ({p50 / base:.2f} x), p99 {p99:.3f} ms", "independent")

    # -- saying it --------------------------------------------------------------------------------------------

    def _check(self, label: str, outcome: Outcome) -> None:
        if outcome.lost or outcome.twice:
            self.failures.append(f"{label}: {outcome.lost} plans lost, {outcome.twice} answered twice")

    def _say(self, what: str, figure: str, goal: str) -> None:
        self.report[what] = figure
        if not self.args.json:
            print(f"{what:<48} {figure:<44} {goal}", flush=True)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def _sim(url: str, what: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(f"{url}/_sim/{what}", data=msgspec.json.encode(body) if body else None,
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as reply:
        return msgspec.json.decode(reply.read())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each steady load")
    parser.add_argument("--burst", type=int, default=20_000)
    parser.add_argument("--rest", type=float, default=20.0, help="seconds at rest")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, figures without weight")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.burst, args.rest = 1, 1.0, 1000, 1.0
    return Bench(args).run()


if __name__ == "__main__":
    sys.exit(main())
