"""The null consumer: the same libraries, the same stream, and no thought.

Reads each plan and writes a constant permit, a constant record and the acknowledgement, in one round trip a plan.
What a verdict costs beyond this is what the gate costs.
"""

from __future__ import annotations

import sys

from p33_sidecar.store.connect import Link
from tests.bench.load import NULL_GROUP, NULL_PERMIT, NULL_PLANS, NULL_RECORDS

PERMIT = b'{"v":1,"allow":true,"safe_close_qty":0.028}'.ljust(440)
RECORD = b'{"v":1,"outcome":"ALLOW"}'.ljust(4_000)
"""Both as long as the sidecar's on the same plans (permits of 435 to 460 bytes, records of 3,920 to 4,050)."""


def main(url: str) -> None:
    client = Link(url, name="null").redis
    client.xgroup_create(NULL_PLANS, NULL_GROUP, id="0", mkstream=True)
    print("ready", flush=True)
    while True:
        reply = client.xreadgroup(NULL_GROUP, "null", {NULL_PLANS: ">"}, count=64, block=1000)
        for entry_id, fields in reply[0][1] if reply else ():
            pipe = client.pipeline(transaction=True)
            pipe.set(NULL_PERMIT + fields["plan_id"], PERMIT, px=60_000)
            pipe.xadd(NULL_RECORDS, {"plan_id": fields["plan_id"], "symbol": fields["symbol"], "json": RECORD})
            pipe.xack(NULL_PLANS, NULL_GROUP, entry_id)
            pipe.execute()


if __name__ == "__main__":
    main(sys.argv[1])
