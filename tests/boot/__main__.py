"""`make boot`: the installation on a booted Debian, its Redis with the shipped users, beside a simulated exchange.

    python -m tests.boot [--keep] [--folder FOLDER]

Exit code 0: every chapter of tests/boot/story.py held; 1: one did not; 2: nothing can be booted here, and why.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.boot import machine

OUTCOME = "srv/outcome.json"
BOOTS = 2
"""The second shows that everything comes back by itself."""


def main(argv: list[str]) -> int:
    """Make it, boot it twice, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.boot")
    parser.add_argument("--keep", action="store_true", help="leave the folder, to look into it")
    parser.add_argument("--folder", type=Path, help="where the system is unpacked (1 GB)")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="p33-boot-"))
    root = folder / "root"
    try:
        machine.check()
        print("Debian and wheels: fetched, or taken from the cache", flush=True)
        machine.furnish(root, machine.base(), machine.wheels("pipeline"))
        for _ in range(BOOTS):
            machine.boot(root, folder / "console.log", tell=_tell)
            outcome = _outcome(root)
            if outcome["failed"]:
                break
    except machine.Unbootable as error:
        print(f"boot: {error}", file=sys.stderr)
        return 2
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(outcome['passed'])} passed, {len(outcome['failed'])} failed")
    return 1 if outcome["failed"] or not outcome["complete"] else 0


def _outcome(root: Path) -> dict[str, list[str]]:
    try:
        return json.loads((root / OUTCOME).read_text())
    except (OSError, ValueError) as error:
        raise machine.Unbootable(f"the story left no outcome ({error}); its end: "
                                 f"{(root / machine.STORY_LOG).read_text(errors='replace')[-1500:]}") from None


def _tell(text: str) -> None:
    if text:
        print(text, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
