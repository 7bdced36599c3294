"""`p33 rotate-key`: a new signing key for permits, without one permit lost.

The order of things is what keeps that. `begin`: every program's folder gets the new key and keeps the old one as
P33_PERMIT_KEY_PREVIOUS. The Apply Layer is stopped while the gate restarts, so that no plan waits in vain for a permit,
and starts again knowing both keys: what was signed with either is taken. `finish`, once a canary shows that gate and
Apply Layer use the new key and no permit of the old one is alive: the old one is deleted, the Apply Layer restarts, and
whatever is signed with the old key is forged from then on.

What may not happen here: a moment in which the gate signs with a key that the Apply Layer does not know; a key on the
screen. A run that broke off is taken up where it stands by the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ..core.permit import read_permit, signature_holds
from ..errors import P33Error
from ..settings import load
from ..store import keys
from ..store.connect import store_errors
from . import paper
from .credentials import HOLDERS, KEY, PREVIOUS, new_key, permit_keys, put
from .proof.canary import fly
from .proof.journal import UNITS
from .session import Session

SIDECAR_UNIT, APPLY_UNIT = UNITS
START_S: Final = 60
"""How long the gate may take to get ready while the Apply Layer waits; then that is started all the same."""
FINISH_MARGIN_S: Final = 120
CANARY_MS: Final = 20_000
LOOK_EVERY_S: Final = 0.5


class NotRotated(P33Error):
    """It cannot be begun or finished as things stand; nothing was deleted."""


def rotate(session: Session, folder: Path, *, stage: str, restart: bool, as_json: bool) -> int:
    """`stage`: begin, finish, or empty for both with the restarts between."""
    if not stage and not restart:
        raise NotRotated("without restarts it takes two steps: --begin, restart both by hand, --finish")
    if restart and not shutil.which("systemctl"):
        raise NotRotated("there is no systemctl here: --begin --no-restart, restart by hand, --finish --no-restart")
    done: list[str] = []
    try:
        with _alone(folder):
            if stage != "finish":
                done += _begin(folder, restart=restart)
            if stage != "begin":
                done += _finish(session, folder, restart=restart, patient=not stage)
    except OSError as error:
        raise NotRotated(f"{error.filename or folder}: {error.strerror}") from error
    if as_json:
        paper.emit({"ok": True, "done": done})
    else:
        paper.console().print(paper.lines(done))
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of two people who rotate at once, one: each would put a new key of its own into every second folder."""
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotRotated(f"another p33 rotate-key is at work in {folder}: let it end") from None
        yield
    finally:
        os.close(held)


# -- the two steps ------------------------------------------------------------------------------------------------


def _begin(folder: Path, *, restart: bool) -> list[str]:
    said = begin(folder)
    if not restart:
        return [said, f"now: stop {APPLY_UNIT}, restart {SIDECAR_UNIT}, start {APPLY_UNIT}",
                "then: p33 rotate-key --finish"]
    _systemctl("stop", APPLY_UNIT)
    try:
        _systemctl("restart", SIDECAR_UNIT, patience_s=START_S)
    finally:
        _systemctl("start", APPLY_UNIT)
    return [said, "the gate signs with the new key; the Apply Layer knows both"]


def begin(folder: Path) -> str:
    """The old key beside the new one, in every program's folder. Raises NotRotated, OSError."""
    current, before = permit_keys(folder), permit_keys(folder, PREVIOUS)
    if not current:
        raise NotRotated(f"there is no {KEY} in {folder}: deployment/deploy.sh makes it")
    old = set(before.values()) or set(current.values())
    fresh = set(current.values()) - old
    if len(old) != 1 or len(fresh) > 1:
        raise NotRotated(f"{KEY} differs between the folders of {folder}: which one is right?")
    if before and fresh == set(current.values()) and len(before) == len(HOLDERS):
        return "begun before; the new key is in its place"
    for holder in HOLDERS:
        put(folder / holder / PREVIOUS, next(iter(old)))
    key = fresh.pop() if fresh else new_key()
    for holder in HOLDERS:
        put(folder / holder / KEY, key)
    return f"a new key is in {folder}, beside the old one"


def _finish(session: Session, folder: Path, *, restart: bool, patient: bool) -> list[str]:
    before, current = permit_keys(folder, PREVIOUS), set(permit_keys(folder).values())
    if not before or len(current) != 1:
        raise NotRotated("no rotation is under way: p33 rotate-key --begin")
    alone = _with_key(session, current.pop())
    patience_s = session.settings["P33_PERMIT_TTL"] / 1000 + FINISH_MARGIN_S if patient else 0
    _settled(lambda: _hindrance(alone), patience_s=patience_s)
    for path in before:
        path.unlink()
    if not restart:
        return ["the old key is deleted", f"now: restart {APPLY_UNIT}, which still takes what the old key signed"]
    _systemctl("restart", APPLY_UNIT)
    return ["the old key is deleted; what it signed is refused from now on"]


def _settled(hindrance: Callable[[], str], *, patience_s: float) -> None:
    """Raises NotRotated with what is in the way when patience is over."""
    ends_s = time.monotonic() + patience_s
    while why := hindrance():
        if time.monotonic() >= ends_s:
            raise NotRotated(f"not finished, both keys stay: {why}. Again: p33 rotate-key --finish")
        time.sleep(LOOK_EVERY_S)


def _hindrance(session: Session) -> str:
    """Why the old key is still needed; empty where it is not. The session knows the new key alone."""
    if count := _signed_otherwise(session):
        return f"{count} permits that live are not signed with the new key"
    flown = fly(session, wait_ms=CANARY_MS)
    return "" if flown.ok else f"canary: {flown.problem}"


def _signed_otherwise(session: Session) -> int:
    count = 0
    with store_errors():
        for name in session.redis.scan_iter(match=keys.PERMIT + "*", count=1000):
            kind = session.redis.type(name)
            raw = (session.redis.get(name) or "").encode() if kind == "string" else b""
            ours = read_permit(raw) is not None
            count += ours and not signature_holds(raw, session.keys_known)
    return count


def _with_key(session: Session, key: str) -> Session:
    env = {name: value for name, value in session.env.items() if not name.startswith(KEY)}
    return msgspec.structs.replace(session, settings=load(env | {KEY: key, "CREDENTIALS_DIRECTORY": ""}))


def _systemctl(verb: str, unit: str, *, patience_s: float = START_S) -> None:
    """Raises NotRotated where it fails. A gate that is not ready in time goes on starting: that is no failure."""
    program = shutil.which("systemctl") or "systemctl"
    try:
        said = subprocess.run(  # noqa: S603 - systemctl, with words of ours
            [program, verb, unit], capture_output=True, text=True, timeout=patience_s, check=False,
            stdin=subprocess.DEVNULL, env=dict(os.environ))
    except subprocess.TimeoutExpired:
        return
    if said.returncode:
        raise NotRotated(f"systemctl {verb} {unit}: {said.stderr.strip()[:200]}. Again: p33 rotate-key")
