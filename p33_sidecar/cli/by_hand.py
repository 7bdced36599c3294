"""Starts what a unit would start, where there is no systemd: same program, same settings file, same credentials.

    python -m p33_sidecar.cli.by_hand UNIT-FILE [--root FOLDER] [NAME=VALUE ...]

`--root`: the installation lies below this folder (DESTDIR). Assignments win over the settings file. This process
becomes the program. What may not happen here: a secret in the environment; programs are given the files' names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import ConfigurationInvalid
from .envfile import parse_env_file, read_env_files


def main(argv: list[str]) -> int:
    """Become the unit's program; returns only where that cannot be done."""
    words = list(argv)
    root = ""
    if "--root" in words[:-1]:
        at = words.index("--root")
        root = words[at + 1].rstrip("/")
        del words[at:at + 2]
    if not words or not all("=" in word for word in words[1:]):
        print(__doc__.split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    try:
        program, env = unit(Path(words[0]), root=root)
    except (OSError, KeyError, ConfigurationInvalid) as error:
        print(f"by_hand: {words[0]}: {error}", file=sys.stderr)
        return 1
    env |= dict(word.split("=", 1) for word in words[1:])
    try:
        os.execve(program[0], program, os.environ | env)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"by_hand: {program[0]}: {error.strerror}", file=sys.stderr)
    return 1


def unit(path: Path, *, root: str = "") -> tuple[list[str], dict[str, str]]:
    """(command line, environment) of a unit file. Raises OSError, KeyError without ExecStart, ConfigurationInvalid."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, mark, value = line.partition("=")
        if mark and not line.startswith(("#", ";")):
            found.setdefault(name.strip(), []).append(value.strip())
    program = found["ExecStart"][-1].split()
    files = [Path(_below(root, value)) for value in found.get("EnvironmentFile", [])]
    env = parse_env_file("\n".join("\n".join(value.split()) for value in found.get("Environment", [])))
    env |= read_env_files(files)
    for value in found.get("LoadCredential", []):
        folder = Path(_below(root, value.partition(":")[2]))
        env |= {f"{kept.name}_FILE": str(kept) for kept in sorted(folder.iterdir()) if kept.is_file()}
    return [root + program[0], *program[1:]], env


def _below(root: str, path: str) -> str:
    """The path below the root; a leading `-` (the file may be missing) stays in front."""
    return f"-{root}{path[1:]}" if path.startswith("-") else root + path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
