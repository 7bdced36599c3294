"""A fail-over that keeps our connections: the server we talk to becomes a replica, and its name leads elsewhere.

So with managed servers and a DNS name in front: nobody closes the connections to the old primary. Who stayed on them
would be told READONLY for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from p33_sidecar.store import keys, scripts
from p33_sidecar.store.connect import Link
from tests.failover import Pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def _script(link: Link) -> None:
    scripts.run(link.redis, "resume", [keys.halt(), keys.EVENTS, keys.SWITCHES], ["", "{}"])


def _pipeline(link: Link) -> None:
    pipe = link.redis.pipeline(transaction=True)
    pipe.set("k", "v")
    pipe.execute()


@pytest.mark.parametrize("write", [lambda link: link.redis.set("k", "v"), _script, _pipeline],
                         ids=["command", "script", "transaction"])
def test_after_a_fail_over_the_next_command_goes_where_the_name_leads(
        pair: Pair, write: Callable[[Link], object]) -> None:
    """One is refused, and with it the connection is given up."""
    link = Link(pair.name.url, name="writer")
    write(link)
    before = link.run_id
    pair.fail_over()
    with pytest.raises(redis.RedisError):
        write(link)
    write(link)
    assert link.run_id not in ("", before)
    link.close()


def test_after_a_fail_over_a_line_goes_where_the_name_leads(pair: Pair) -> None:
    """Told by the reply to one command, or by one among others."""
    link = Link(pair.name.url, name="line")
    line = link.line()
    assert line.ask(("SET", "k", "1")) == "OK"
    before = link.run_id
    pair.fail_over()
    replies = line.ask_all([("GET", "k"), ("SET", "k", "2")])
    assert replies[0] == "1" and isinstance(replies[1], redis.ResponseError)
    assert line.ask(("SET", "k", "3")) == "OK" and link.run_id not in ("", before)
    link.close()
