"""The outermost frame of the pipeline's commands: whatever goes wrong is exit code 2, never the one of a finding.

What they print comes from streams, from the exchange and from people: nothing of it reaches a terminal unescaped.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Final

from p33_sidecar.errors import P33Error

COULD_NOT: Final = 2


def outermost(command: str, run: Callable[[], int]) -> int:
    """The exit code of `run`. What the house raises is a line on stderr, all else a fault of ours with its trace."""
    try:
        return run()
    except (P33Error, ValueError) as error:
        print(f"{command}: {error}", file=sys.stderr)
    except Exception as error:  # noqa: BLE001 - the outermost frame
        traceback.print_exc()
        print(f"{command}: this should not have happened ({type(error).__name__}): nothing was lost; run again, and if "
              "it stays, send the lines above to whoever maintains p33", file=sys.stderr)
    return COULD_NOT


def say(line: str) -> None:
    """Print a line without what a terminal would act on: control characters are shown, not sent."""
    print("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line))
