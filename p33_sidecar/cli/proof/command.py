"""The command: look at the eight points, print them, keep them. Exit code 0: all hold."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ...errors import P33Error
from .. import paper
from ..session import Session
from ..units import moment
from . import changes, journal
from .points import Point, six


class Proof(msgspec.Struct, frozen=True):
    """What `--json` prints and `--keep` writes. `picture` is what the next proof compares itself with."""

    ok: bool
    at_ms: int
    checks: list[Point]
    picture: changes.Picture


class NotKept(P33Error):
    """The file to keep could not be written."""


def prove(session: Session, *, keep: Path | None, logs: list[Path], wait_ms: int, as_json: bool) -> int:
    """Print the eight points; with `keep`, compare with the proof there and replace it (and `.txt` beside it)."""
    found, seen = six(session, wait_ms=wait_ms)
    picture = changes.taken(session, seen)
    points = [*found, journal.logs(logs), changes.changes(session, picture, keep)]
    proof = Proof(all(point.ok for point in points), picture.at_ms, points, picture)
    if keep is not None:
        _put(keep, msgspec.json.format(msgspec.json.encode(proof), indent=2).decode() + "\n")
        _put(keep.with_suffix(".txt"), in_words(proof))
    if as_json:
        paper.emit(proof)
    else:
        _print(proof)
    return 0 if proof.ok else 1


def in_words(proof: Proof) -> str:
    """As the file that is kept says it: one line a point."""
    head = f"P3.3 proof of {moment(proof.at_ms)}: {_verdict(proof)}"
    lines = [f"{number}. {'ok  ' if point.ok else 'FAIL'} {point.name}: {point.detail}"
             for number, point in enumerate(proof.checks, 1)]
    return "\n".join([head, *lines]) + "\n"


def _verdict(proof: Proof) -> str:
    failed = [point.name for point in proof.checks if not point.ok]
    return f"FAILED ({', '.join(failed)})" if failed else f"all {len(proof.checks)} points hold"


def _print(proof: Proof) -> None:
    out = paper.console()
    rows = [(str(number), paper.cell("ok" if p.ok else "FAIL", paper.GOOD if p.ok else paper.BAD), p.name, p.detail)
            for number, p in enumerate(proof.checks, 1)]
    out.print(paper.table(f"P3.3 proof of {moment(proof.at_ms)}", ("", "", "point", "what was found"), rows))
    out.print(paper.cell(_verdict(proof), paper.GOOD if proof.ok else paper.BAD))


def _put(path: Path, content: str) -> None:
    """All of it or nothing: a proof that broke off is none."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(content, encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise NotKept(f"{path}: {error.strerror}") from error
