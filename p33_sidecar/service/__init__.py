"""The live service: poller, bookkeeper, clerk and permit desk, each a plain `step()` on the ports it is given.

Only `lifecycle` knows about threads. A loop owns its connection; what loops share is `Memory`.
"""

import sys

sys.modules.setdefault("httpx._main", None)
"""httpx offers a command of its own where `rich` and `click` are installed, and would load them: 5 MB of a daemon."""
