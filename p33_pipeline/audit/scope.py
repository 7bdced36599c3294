"""What an audit looks at: the archive's tables as DuckDB views, a range, and how far the archive reaches.

Findings belong to the range; what they are judged by is looked for around it. Nothing here judges. Files of a folder
are read by DuckDB itself; those elsewhere by way of pyarrow, which knows the object store and its credentials.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import msgspec
import pyarrow as pa

from p33_pipeline.archive.everything import archived_until_ms, first_ms
from p33_pipeline.archive.trades import Reach, reaches
from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.history import TABLES, Files, History, Table
from p33_pipeline.history.place import Folder
from p33_sidecar.core.model import Policy

DAY_MS = 86_400_000
MEMORY = "1GB"
"""What DuckDB may hold; what is more goes to the temporary folder."""
WHOLE_TABLES = ("ledger", "results", "gaps")
"""Read from the beginning: few rows, and an account is a sum from its opening on."""


class Scope(msgspec.Struct, frozen=True):
    """A range of a history, opened. `db` holds one view a table; `begin_ms` is the archive's first poll."""

    db: duckdb.DuckDBPyConnection
    from_ms: int
    to_ms: int
    begin_ms: int
    until_ms: int
    reach: dict[str, Reach]
    policy: Policy

    def judged(self, at_ms: int) -> bool:
        """Whether something of that time belongs to the range, and all that was written up to then is archived."""
        return self.from_ms <= at_ms < min(self.to_ms, self.until_ms)


def scope_of(tables: dict[str, object], *, from_ms: int, to_ms: int, begin_ms: int, until_ms: int,
             reach: dict[str, Reach], policy: Policy) -> Scope:
    """A scope over tables at hand: Arrow tables, datasets or `Files` by name; those left out are empty."""
    spill = f"{tempfile.gettempdir()}/p33-audit-{os.getpid()}"
    db = duckdb.connect(":memory:", config={"memory_limit": MEMORY, "temp_directory": spill})
    db.execute("SET TimeZone = 'UTC'")
    for name, table in TABLES.items():
        given = tables.get(name, table.schema.empty_table())
        if isinstance(given, Files):
            _view(db, name, given)
        else:
            db.register(name, given)
    return Scope(db, from_ms, to_ms, begin_ms, until_ms, reach, policy)


def open_scope(history: History, *, from_ms: int, to_ms: int, policy: Policy) -> Scope:
    """The range of an archive, with a day on either side. Raises HistoryUnreadable."""
    until_ms = archived_until_ms(history)
    begin_ms = first_ms(history) or 0
    around = {"from_ms": max(from_ms - DAY_MS, 0), "to_ms": to_ms + DAY_MS}
    tables = {name: opened(history, table, **({} if name in WHOLE_TABLES else around))
              for name, table in TABLES.items()}
    return scope_of(tables, from_ms=from_ms, to_ms=to_ms, begin_ms=begin_ms, until_ms=until_ms,
                    reach=reaches(history), policy=policy)


def opened(history: History, table: Table, **around: int) -> object:
    """The table unread, by whole days, in the form that reads fastest where it lies. Raises HistoryUnreadable."""
    return (history.files if isinstance(history.place, Folder) else history.dataset)(table, **around)


@contextmanager
def reading(history: History) -> Iterator[None]:
    """Whatever DuckDB says instead of an answer because of a file becomes a sentence that names it.

    It finds files damaged only when it comes to the place, and seldom says which: they are then looked through.
    What it says for any other reason is a fault of ours and stays as it is. Raises HistoryUnreadable.
    """
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        for table in TABLES.values():
            history.verify(table)
        if isinstance(error, duckdb.IOException | OSError):
            raise HistoryUnreadable(f"the history at {history.place} changed while it was read, or its place does not "
                                    f"answer ({str(error)[:160]}): nothing was lost; run again") from error
        raise


def _view(db: duckdb.DuckDBPyConnection, name: str, files: Files) -> None:
    """The files as one view, with the rows that are taken from others only in part; columns go by their names."""
    db.register(f"{name}_rest", files.rest)
    whole = ""
    if files.paths:
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in files.paths)
        read = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        whole = f"SELECT * FROM {read} UNION ALL BY NAME "  # noqa: S608 - paths of ours, quoted
    db.execute(f'CREATE VIEW "{name}" AS {whole}SELECT * FROM {name}_rest')  # noqa: S608 - names of ours


def rows(scope: Scope, query: str, **values: object) -> list[dict]:
    """The answer to a question, as one dict a row; amounts are Decimals."""
    return scope.db.sql(query, params=values or None).to_arrow_table().to_pylist()


def register(scope: Scope, name: str, table: pa.Table) -> None:
    """Make a derived table known to later questions."""
    scope.db.register(name, table)
