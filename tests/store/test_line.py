"""The line: replies in their order, errors by name, and a broken connection that the next question replaces."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import redis

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store.connect import Link
from p33_sidecar.store.line import BUFFER_BYTES, Line


class Interrupted(Exception):
    """What a handler of a signal throws."""


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    made = Link(redis_url, name="line")
    yield made
    made.close()


def test_replies_come_in_the_order_of_the_commands(link: Link) -> None:
    """Texts, numbers, nothing and lists; an error is one reply among them and breaks no other."""
    replies = link.line().ask_all([("SET", "k", b"caf\xc3\xa9"), ("GET", "k"), ("LPUSH", "k", 1), ("GET", "none"),
                                   ("INCR", "n"), ("MGET", "k", "none")])
    assert [*replies[:2], *replies[3:]] == ["OK", "café", None, 1, ["café", None]]
    assert isinstance(replies[2], redis.ResponseError) and str(replies[2]).startswith("WRONGTYPE")


def test_error_reply_to_one_command_is_raised(link: Link) -> None:
    """And the line goes on."""
    line = link.line()
    with pytest.raises(redis.ResponseError, match="unknown command"):
        line.ask(("NOSUCH",))
    assert line.ask(("PING",)) == "PONG"


def test_reply_larger_than_the_buffer(link: Link) -> None:
    """Read in as many pieces as it takes."""
    line, large = link.line(), "x" * (3 * BUFFER_BYTES + 1)
    assert line.ask_all([("SET", "k", large), ("GET", "k"), ("PING",)]) == ["OK", large, "PONG"]


def test_no_reply_in_time_is_unavailable_and_the_late_one_is_never_taken_for_another(link: Link) -> None:
    """The connection is given up: a later question must not be answered with an earlier reply."""
    line = Line(link, timeout_s=0.2)
    with pytest.raises(StoreUnavailable, match="no reply within 0.2 s"):
        line.ask(("BLPOP", "nothing", "5"))
    assert line.ask(("ECHO", "mine")) == "mine"


def _interrupted_after(seconds: float, line: Line) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    line.ask(("BLPOP", "awaited", "60"))


def test_question_that_was_interrupted_leaves_no_answer_to_the_next(link: Link) -> None:
    """An exception out of a signal's handler, as a task queue's time limit throws it into a taking."""
    def interrupt(*_: object) -> None:
        raise Interrupted

    line, before = Line(link, timeout_s=120), signal.signal(signal.SIGALRM, interrupt)
    assert line.ask(("PING",)) == "PONG"
    try:
        with pytest.raises(Interrupted):
            _interrupted_after(0.1, line)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    link.redis.lpush("awaited", "late")
    assert line.ask(("ECHO", "mine")) == "mine"


def test_server_that_went_away_and_came_back_is_another_process() -> None:
    """Broken while it is gone; afterwards the next question opens a connection that tells the new run id."""
    with EmbeddedServer() as server:
        link = Link(server.url, name="line")
        line = link.line()
        assert line.ask(("PING",)) == "PONG"
        before = link.run_id
        server.kill()
        with pytest.raises(StoreUnavailable):
            line.ask(("PING",))
        server.start()
        assert line.ask(("PING",)) == "PONG" and link.run_id not in ("", before)
        link.close()


def test_connection_closed_by_the_server_is_unavailable_once(link: Link) -> None:
    """CLIENT KILL, a time-out of the server's: said once, then opened anew."""
    line = link.line()
    name = line.ask(("CLIENT", "ID"))
    link.redis.client_kill_filter(_id=name)
    with pytest.raises(StoreUnavailable):
        line.ask(("PING",))
    assert line.ask(("CLIENT", "GETNAME")) == "p33-line"


def test_forked_process_has_a_line_of_its_own(link: Link) -> None:
    """On one that two processes share, either hears what the other has asked: as in a server that forks its workers."""
    line, (reading, writing) = link.line(), os.pipe()
    ours = line.ask(("CLIENT", "ID"))
    if not (child := os.fork()):
        try:
            os.write(writing, str(line.ask(("CLIENT", "ID"))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    assert theirs.isdigit() and int(theirs) != ours
    assert line.ask(("CLIENT", "ID")) == ours


def test_line_is_opened_anew_however_often_it_breaks() -> None:
    """A pool that counted what it no longer holds would be full one day, and the desk silent until its restart."""
    with EmbeddedServer() as server:
        link = Link(server.url, name="line")
        line = link.line()
        for _ in range(5):
            assert line.ask(("PING",)) == "PONG" and link.redis.ping()
            server.kill()
            for _ in range(5):
                with pytest.raises(StoreUnavailable):
                    line.ask(("PING",))
            server.start()
        assert line.ask(("PING",)) == "PONG"
        link.close()
