"""What people say of breaks: owner, state, comment. Kept in a small database beside the archive, with its history.

SQLite in the archive's folder by default, any database by P33_REGISTRY_URL. A break is known by its id alone, so that a
note survives the audits that find the break again. Every change is kept with who made it and when; nothing is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from p33_pipeline.errors import PipelineError
from p33_pipeline.history.place import Folder, place_at
from p33_pipeline.report.report import STATES, Note
from p33_sidecar.settings import Settings

FILE = "registry.sqlite"
TEXT_MOST = 2_000
_METADATA = sa.MetaData()
_NOTES = sa.Table(
    "break_notes", _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("break_id", sa.String(64), nullable=False, index=True), sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(128), nullable=False), sa.Column("state", sa.String(32), nullable=False),
    sa.Column("owner", sa.String(128), nullable=False), sa.Column("comment", sa.Text, nullable=False))
_ALONE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": f"LOCK TABLE {_NOTES.name} IN SHARE ROW EXCLUSIVE MODE"}
"""What keeps other writers out until the transaction ends, by the kind of database: nobody overwrites what another said
meanwhile."""


class RegistryUnavailable(PipelineError):
    """The database of annotations cannot be used; the message says what to do and quotes no login."""


class Registry:
    """The annotations at one database."""

    def __init__(self, url: str | sa.URL) -> None:
        with _errors():
            self._engine = sa.create_engine(_with_driver(sa.make_url(url)))
            try:
                _METADATA.create_all(self._engine)
            except sa.exc.DatabaseError:  # several runs may see at once that it is missing, and one of them makes it
                if not sa.inspect(self._engine).has_table(_NOTES.name):
                    raise

    def notes(self) -> dict[str, Note]:
        """The latest note of every break that has one."""
        with _errors(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_NOTES).order_by(_NOTES.c.number)).all()
        return {row.break_id: _note(row) for row in rows}

    def annotate(self, break_id: str, *, by: str, state: str = "", owner: str | None = None,
                 comment: str | None = None) -> Note:
        """Add to what is known of a break; what is not given stays. Raises ValueError for a state that is none."""
        if not break_id or len(break_id) > 64 or not break_id.isalnum():
            raise ValueError(f"not a break's id: {break_id[:64]!r}")
        if state and state not in STATES:
            raise ValueError(f"state {state[:40]!r}: one of {', '.join(STATES)}")
        with _errors(), self._engine.begin() as connection:
            if self._engine.dialect.name in _ALONE:
                connection.execute(sa.text(_ALONE[self._engine.dialect.name]))
            latest = sa.select(_NOTES).where(_NOTES.c.break_id == break_id).order_by(_NOTES.c.number.desc()).limit(1)
            row = connection.execute(latest).first()
            before = _note(row) if row else Note()
            note = Note(state or before.state, before.owner if owner is None else owner[:128],
                        before.comment if comment is None else comment[:TEXT_MOST])
            connection.execute(_NOTES.insert().values(
                break_id=break_id, at_ms=time.time_ns() // 1_000_000, by=by[:128], state=note.state, owner=note.owner,
                comment=note.comment))
        return note

    def history(self, break_id: str) -> list[dict]:
        """Every change of a break's note, oldest first."""
        with _errors(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_NOTES).where(_NOTES.c.break_id == break_id).order_by(_NOTES.c.number))
            return [dict(row._mapping) for row in rows]

    def close(self) -> None:
        self._engine.dispose()


def _note(row: sa.Row) -> Note:
    return Note(row.state, row.owner, row.comment)


def registry_of(settings: Settings) -> Registry:
    """The database the settings name. Raises RegistryUnavailable."""
    url = settings["P33_REGISTRY_URL"]
    if not url:
        place = place_at(settings["P33_HISTORY_URL"])
        if not isinstance(place, Folder):
            raise RegistryUnavailable("an object store holds no database: set P33_REGISTRY_URL")
        with _errors():
            Path(place.root).mkdir(parents=True, exist_ok=True)
        path = Path(place.root) / FILE
        registry = Registry(sa.URL.create("sqlite", database=str(path)))
        with _errors():
            place.hand_over(path)
        return registry
    return Registry(url)


def notes_of(settings: Settings) -> dict[str, Note]:
    """What people said of breaks, by break id; nothing where an object store has no registry beside it."""
    if not settings["P33_REGISTRY_URL"] and not isinstance(place_at(settings["P33_HISTORY_URL"]), Folder):
        return {}
    registry = registry_of(settings)
    try:
        return registry.notes()
    finally:
        registry.close()


def _with_driver(url: sa.URL) -> sa.URL:
    """SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3; what comes with dagster-postgres is psycopg2."""
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


@contextmanager
def _errors() -> Iterator[None]:
    """The driver's own words may quote the login: only the kind of failure is told."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise RegistryUnavailable(f"the registry of annotations cannot be used ({type(error).__name__}): see that "
                                  "P33_REGISTRY_URL is right, its driver installed and the database up") from None
