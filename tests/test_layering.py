"""The house's arrows point one way, and the rules stay pure: read off the source, file by file."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "p33_sidecar"
FILES = sorted(HOUSE.rglob("*.py"))
CORE = sorted((HOUSE / "core").rglob("*.py"))
PIPELINE = sorted((ROOT / "p33_pipeline").rglob("*.py"))
ids = [str(path.relative_to(ROOT)) for path in FILES]

FORBIDDEN = {  # a package, and what it may not know of
    "core": {"exchange", "store", "service", "cli", "rehearsal", "settings", "gate", "apply", "errors"},
    "store": {"exchange", "service", "apply", "cli", "rehearsal"},
    "exchange": {"store", "service", "apply", "cli", "rehearsal"},
    "service": {"apply", "cli", "rehearsal"},
    "apply": {"cli", "rehearsal"},
    "gate.py": {"exchange", "service", "apply", "cli", "rehearsal"},
}


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that the file imports, wherever in it the import stands."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[:len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def calls(path: Path) -> set[str]:
    """Everything the file calls, as written: `open`, `time.time`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_there_is_a_house_to_look_at():
    """An empty list of files would make every rule here hold."""
    assert len(CORE) >= 8 and len(FILES) > len(CORE)
    assert "p33_sidecar.core.quantity.text" in imported(HOUSE / "core" / "record.py")


@pytest.mark.parametrize("path", CORE, ids=[path.stem for path in CORE])
def test_core_imports_the_standard_library_and_msgspec(path):
    """Nothing else, so that it runs wherever a verdict is taken again."""
    roots = {name.split(".")[0] for name in imported(path) if not name.startswith("p33_sidecar.core")}
    assert roots <= sys.stdlib_module_names | {"msgspec"}


@pytest.mark.parametrize("path", CORE, ids=[path.stem for path in CORE])
def test_core_is_pure(path):
    """No clock, no I/O, no randomness, no float: time and ids are parameters, quantities exact."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"time", "datetime", "random", "secrets", "uuid", "os", "io", "pathlib", "socket", "threading"}
    assert not calls(path) & {"open", "print", "input", "float", "eval", "exec"}
    assert not [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_arrows_point_one_way(path):
    """cli, service, rehearsal -> store, exchange -> core."""
    layer = path.relative_to(HOUSE).parts[0]
    wrong = {name for name in imported(path) for other in FORBIDDEN.get(layer, ())
             if f"{name}.".startswith(f"p33_sidecar.{other}.")}
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_the_daemon_stays_light(path):
    """Never the pipeline, dagster or pandas; typer and rich only in the operator's tool and the demo."""
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"p33_pipeline", "dagster", "pandas", "pyarrow", "duckdb", "matplotlib"}
    where = path.relative_to(HOUSE).parts
    if where[0] != "cli" and where[:2] not in (("rehearsal", "demo"), ("rehearsal", "demo.py")):
        assert not roots & {"typer", "rich"}


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(HOUSE).parts[0] in ("exchange", "store")],
                         ids=[i for i in ids if i.split("/")[1] in ("exchange", "store")])
def test_no_float_is_made_beside_quantities(path):
    """Exchange and store hold quantities: nothing but a constant (`float("inf")`, never reached) becomes a float."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "float" and not all(isinstance(arg, ast.Constant) for arg in node.args)]
    assert not made


@pytest.mark.parametrize("path", PIPELINE, ids=[str(path.relative_to(ROOT)) for path in PIPELINE])
def test_the_pipeline_knows_the_rules_and_never_the_service(path):
    """Of the sidecar: rules, settings, errors, the C library, the exchange's client; of the store names and lines."""
    store = ("store.keys", "store.connect", "store.progress", "store.positions.RedisBans")
    allowed = ("core", "exchange", "settings", "errors", "libc", *store)
    theirs = {name for name in imported(path) if name.startswith("p33_sidecar.")}
    wrong = {name for name in theirs
             if not any(f"{name}.".startswith(f"p33_sidecar.{part}.") or f"p33_sidecar.{part}.".startswith(f"{name}.")
                        for part in allowed)}
    assert not wrong


@pytest.mark.parametrize("path", PIPELINE, ids=[str(path.relative_to(ROOT)) for path in PIPELINE])
def test_the_pipeline_makes_no_float(path):
    """Amounts stay decimals from the stream to the report."""
    assert "float" not in calls(path)
    assert not {name for name in imported(path) if name.startswith("pyarrow.float")}
