"""`make attacks`: plays the attack table and writes docs/attacks.md."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.attacks.scene import TOP, Scene
from tests.attacks.table import page, play


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Scene(Path(folder)) as scene:
        (TOP / "docs" / "attacks.md").write_text(page(play(scene)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
