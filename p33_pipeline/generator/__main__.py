"""Write a history whose truth is known, or hold the audit against many of them.

    python -m p33_pipeline.generator write URL [--seed 1] [--symbols 6] [--rounds 6]     prints the truth
    python -m p33_pipeline.generator check [--seeds 30]       also of the week; exit code 0: all found, and no more
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from itertools import chain

from p33_pipeline.audit.audit import audit
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import Planted, Story, tell
from p33_pipeline.generator.week import tell_week
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History, place_at
from p33_sidecar.core.model import Policy

START_MS = 1_769_302_800_000
"""2026-01-25 01:00 UTC."""


def found_in(story: Story, history: History) -> list[Planted]:
    """What the audit of the story's stretch finds, in the words of its truth."""
    found = audit(history, from_ms=story.from_ms, to_ms=story.to_ms, policy=Policy())
    return sorted([*(Planted(b.kind, b.symbol) for b in found.breaks),
                   *(Planted(f.finding, f.symbol) for f in found.flow), *(Planted(s.finding) for s in found.sources)])


def check(seeds: range) -> int:
    """Audit a story a seed; says what was missed and what was made up. 0 where nothing was."""
    wrong = planted = 0
    stories = ((f"seed {seed}", tell(seed, deeds=DEEDS, start_ms=START_MS)) for seed in seeds)
    for name, story in chain(stories, [("the week", tell_week(START_MS))]):
        with tempfile.TemporaryDirectory() as folder:
            history = History(place_at(folder))
            write(story, history)
            found, truth = Counter(found_in(story, history)), Counter(story.truth)
        planted += truth.total()
        for word, odd in (("missed", truth - found), ("made up", found - truth)):
            wrong += odd.total()
            for finding in odd:
                print(f"{name}: {word} {finding.finding} {finding.symbol}", file=sys.stderr)
    print(f"{planted} findings planted in {len(seeds) + 1} histories, {wrong} of them missed or made up")
    return 1 if wrong else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m p33_pipeline.generator", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("write")
    one.add_argument("url")
    for name, default in (("--seed", 1), ("--symbols", 6), ("--rounds", 6)):
        one.add_argument(name, type=int, default=default)
    commands.add_parser("check").add_argument("--seeds", type=int, default=30)
    given = parser.parse_args(argv)
    if given.command == "check":
        return check(range(1, given.seeds + 1))
    story = tell(given.seed, deeds=DEEDS, start_ms=START_MS, symbols=given.symbols, rounds=given.rounds)
    write(story, History(place_at(given.url)))
    for planted in story.truth:
        print(planted.finding, planted.symbol)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
