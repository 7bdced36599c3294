"""One writer at an object store: a lock object beside the data, changed by conditional writes only.

The object says who holds it. Each change of it is a PUT on the condition that it still is what was last read
(`If-Match`, `If-None-Match`; Amazon S3 since 2024-11, and most that speak its protocol), so that of two only one
succeeds. A holder renews it; who sees it unchanged for the length of a lease, by its own clock, takes it over. No
clocks are compared. The holder renews once more before each write of data: one that was overtaken while it was stopped
writes nothing further.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from p33_pipeline.errors import HistoryUnavailable

LEASE_S = 60.0
"""A lock that nobody renewed for so long belongs to whoever takes it."""
LOOK_AGAIN_S = 0.5
FREE = b"free"
REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
"""How a store says that the object is not what the condition names, is just being changed, or is not there."""


class _Held(NamedTuple):
    """The lock object as it was last seen."""

    etag: str
    body: bytes


class Lock:
    """The lock object `key`, by boto3's client. `shown` is how a sentence names what it locks."""

    def __init__(self, client: Any, bucket: str, key: str, *, shown: str, lease_s: float = LEASE_S) -> None:
        self._client, self._bucket, self._key, self._shown, self._lease_s = client, bucket, key, shown, lease_s
        self._holder = secrets.token_hex(8)
        self._renewals = 0
        self._mine: _Held | None = None
        self._turn = threading.Lock()

    @contextmanager
    def held(self, *, patience_s: float) -> Iterator[None]:
        """Hold it, renewed by a thread, and let it go. Raises HistoryUnavailable if somebody else has it for long."""
        self._acquire(time.monotonic() + patience_s, patience_s)
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done,), name=f"lease {self._shown}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with suppress(HistoryUnavailable):  # what cannot be let go runs out
                self._release()

    def renew(self) -> None:
        """Still ours, for a whole lease from now. Raises HistoryUnavailable where it is not."""
        with self._turn:
            self._renewals += 1
            self._mine = self._mine and self._claim(self._renewals, over=self._mine)
            lost = self._mine is None
        if lost:
            raise HistoryUnavailable(f"{self._shown} was taken over by another run while this one did not move: "
                                     "nothing more was written; run again")

    # -- taking and leaving -----------------------------------------------------------------------------------

    def _acquire(self, until_s: float, patience_s: float) -> None:
        watched, since_s = None, time.monotonic()
        while True:
            there = self._look()
            if there != watched:
                watched, since_s = there, time.monotonic()
            if there is None or there.body == FREE or time.monotonic() - since_s >= self._lease_s:
                self._mine = self._claim(0, over=there)
                if self._mine is not None:
                    self._prove()
                    return
            if time.monotonic() > until_s:
                raise HistoryUnavailable(f"{self._shown} has been held by another run for {patience_s:.0f} s: "
                                         "wait for it to end, or end it")
            time.sleep(LOOK_AGAIN_S)

    def _prove(self) -> None:
        """A store that does not know conditions takes any write: there, nobody would be alone."""
        if self._put(FREE, over=None) is not None:
            raise HistoryUnavailable(f"{self._shown} cannot be held: this object store ignores conditional writes "
                                     "(If-None-Match); use one that keeps them, or a folder")

    def _keep(self, done: threading.Event) -> None:
        while not done.wait(self._lease_s / 3):
            with suppress(HistoryUnavailable):  # the next write says it
                self.renew()

    def _release(self) -> None:
        with self._turn:
            if self._mine is not None:
                self._put(FREE, over=self._mine)
            self._mine = None

    # -- the object -------------------------------------------------------------------------------------------

    def _look(self) -> _Held | None:
        """What stands there; None for nothing."""
        return self._asked(self._get)

    def _get(self) -> _Held:
        reply = self._client.get_object(Bucket=self._bucket, Key=self._key)
        return _Held(reply["ETag"], reply["Body"].read())

    def _claim(self, number: int, *, over: _Held | None) -> _Held | None:
        """Write our name over what was seen; None if it is somebody else's now."""
        mine = self._put(f"{self._holder} {number}".encode(), over=over)
        if mine is None:
            # Refused also where an earlier answer was lost and what stands there is our own.
            there = self._look()
            mine = there if there is not None and there.body.startswith(self._holder.encode()) else None
        return mine

    def _put(self, body: bytes, *, over: _Held | None) -> _Held | None:
        """Write if there still is what `over` says; None if there is not."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over.etag}
        return self._asked(lambda: _Held(self._client.put_object(
            Bucket=self._bucket, Key=self._key, Body=body, **condition)["ETag"], body))

    def _asked(self, ask: Callable[[], _Held]) -> _Held | None:
        """The store's answer; None where it refuses the condition or has no such object."""
        from botocore.exceptions import BotoCoreError, ClientError
        try:
            return ask()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in REFUSED:
                return None
            raise self._unusable(code or type(error).__name__) from error
        except BotoCoreError as error:
            raise self._unusable(type(error).__name__) from error

    def _unusable(self, why: str) -> HistoryUnavailable:
        return HistoryUnavailable(f"{self._shown} cannot be locked ({why}): nothing was lost; see that P33_HISTORY_URL "
                                  "is right, that its credentials may write there, and run again")
