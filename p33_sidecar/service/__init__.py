"""The live service: poller, bookkeeper, clerk and permit desk, each a plain `step()` on the ports it is given.

Only `lifecycle` knows about threads. A loop owns its connection; what loops share is `Memory`.
"""
