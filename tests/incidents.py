"""Which incident is held by which test, and what that test stands on: read off the sources, for docs/incidents.md.

    python -m tests.incidents [--write]

A test is named after what it holds (`test_i02_…`, `test_i30_t21_x23_…`). What it stands on is found by following the
names it uses, its fixtures, and the names those use, through all of tests/: a name that nobody there defines ends it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "incidents.md"
SERVER, SIMULATOR, SIMULATION = "server", "simulator", "simulation"
NEIGHBOURS = {"EmbeddedServer": {SERVER}, "SimExchange": {SIMULATOR}, "Stack": {SERVER, SIMULATOR},
              "FakeStore": {SIMULATION}}
ID = re.compile(r"\b([IXT]\d\d)\b")
_NAMED = re.compile(r"test_((?:[ixt]\d\d_)+)")


class Test(NamedTuple):
    """One test, the ids it is named after, and its neighbours."""

    path: str
    name: str
    ids: tuple[str, ...]
    says: str
    on: frozenset[str]


class Module(NamedTuple):
    """What a file of tests/ defines at its top, and where it has its other names from."""

    path: Path
    defined: dict[str, ast.AST]
    imported: dict[str, tuple[str, str]]
    """name -> the module of tests/ it comes from, and its name there."""


@cache
def module(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined: dict[str, ast.AST] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return Module(path, defined, imported)


def places(name: str, where: Module) -> Iterator[Module]:
    """Modules that may define the name: its own, the one it is imported from, the conftests above."""
    yield where
    if name in where.imported:
        source = TESTS.parent / Path(*where.imported[name][0].split("."))
        yield module(source.with_suffix(".py"))
    for folder in where.path.parents:
        if (folder / "conftest.py").exists():
            yield module(folder / "conftest.py")
        if folder == TESTS:
            return


def stands_on(name: str, where: Module) -> frozenset[str]:
    """The neighbours that are reached from a test."""
    found: set[str] = set()
    seen: set[tuple[Path, str]] = set()
    ahead = [(name, where)]
    while ahead:
        name, where = ahead.pop()
        found |= NEIGHBOURS.get(name, set())
        called = where.imported.get(name, ("", name))[1]
        home = next((place for place in places(name, where) if called in place.defined), None)
        if home is None or (home.path, called) in seen:
            continue
        seen.add((home.path, called))
        ahead += [(used, home) for used in _names(home.path, called)]
    return frozenset(found)


@cache
def _names(path: Path, defined: str) -> set[str]:
    """Every name that a definition uses, its arguments' among them: a fixture is one."""
    node = module(path).defined[defined]
    used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return used | {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}


@cache
def tests() -> list[Test]:
    """Every test that is named after an incident."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        where = module(path)
        for name, node in where.defined.items():
            if isinstance(node, ast.FunctionDef) and (named := _NAMED.match(name)):
                ids = tuple(part.upper() for part in named[1].strip("_").split("_"))
                says = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                found.append(Test(path.relative_to(TESTS).as_posix(), name, ids, says, stands_on(name, where)))
    return found


def by_id() -> dict[str, list[Test]]:
    """id -> its tests, those with the most real neighbours first."""
    found: dict[str, list[Test]] = defaultdict(list)
    for test in tests():
        for id_ in test.ids:
            found[id_].append(test)
    return {id_: sorted(found[id_], key=_realness) for id_ in sorted(found, key=lambda id_: ("IXT".index(id_[0]), id_))}


def _realness(test: Test) -> tuple[bool, bool, str, str]:
    return SERVER not in test.on, SIMULATOR not in test.on, test.path, test.name


def page() -> str:
    """docs/incidents.md."""
    rows = [f"| {id_} | {test.says} | `{test.path}` `{test.name}` | {_on(test.on)} |"
            for id_, held in by_id().items() for test in held]
    return "\n".join((
        "# Incidents and timelines, and the tests that hold them", "",
        "<!-- generated by `python -m tests.incidents --write`; do not edit -->", "",
        "What went wrong in systems of this kind (I, X), and the orders of events that a careful reader found possible",
        "(T). `server` is a real Redis or Valkey over a socket, `simulator` the simulated exchange over HTTP,",
        "`simulation` a whole town on a clock moved by hand. Where nothing is named, a pure function is tried.", "",
        "| id | what is held | test | stands on |", "|---|---|---|---|", *rows, ""))


def _on(neighbours: frozenset[str]) -> str:
    return ", ".join(name for name in (SERVER, SIMULATOR, SIMULATION) if name in neighbours) or "–"


def main(argv: list[str]) -> int:
    """Write the page, or say what has no test on a real server."""
    if "--write" in argv:
        PAGE.write_text(page(), encoding="utf-8")
    lacking = [id_ for id_, held in by_id().items() if not any(SERVER in test.on for test in held)]
    print(f"{len(by_id())} ids; without a test on a real server: {', '.join(lacking) or 'none'}")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
