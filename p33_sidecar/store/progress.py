"""How far the pipeline is: until when the archive and the audit reach. The pipeline notes it, the sidecar shows it.

The sidecar never imports the pipeline, and a program that only runs now and then cannot be scraped: so it leaves a note
where the sidecar looks anyway. An alert says when the note grows old (`P33ArchiveLate`, `P33AuditLate`).
"""

from __future__ import annotations

from typing import NamedTuple

import redis

from . import keys
from .connect import store_errors


class Progress(NamedTuple):
    """Server's ms; 0: there never was one."""

    archived_ms: int = 0
    audited_ms: int = 0


def note(client: redis.Redis, **reached: int) -> None:
    """Note how far the archive (`archived_ms`) or the audit (`audited_ms`) reaches; an old range takes nothing back."""
    before = read(client)._asdict()
    further = {name: until_ms for name, until_ms in reached.items() if until_ms > before[name]}
    if further:
        with store_errors():
            client.hset(keys.PIPELINE, mapping=further)


def read(client: redis.Redis) -> Progress:
    """What was noted; nothing where the note cannot be read."""
    with store_errors():
        try:
            found = client.hmget(keys.PIPELINE, Progress._fields)
        except redis.ResponseError:
            return Progress()
    return Progress(*(int(value) if value and value.isdigit() else 0 for value in found))
