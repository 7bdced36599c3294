"""Where the archive lies: a folder or an object store, reduced to what must be atomic.

A file appears whole or not at all: in a folder by rename after fsync, in an object store by one PUT of bytes that are
complete before the first is sent. Nothing is ever changed in place. Names that begin with `.` are not part of the
archive.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pyarrow import fs

from p33_pipeline.errors import HistoryUnavailable
from p33_pipeline.history.lease import LEASE_S, Lock

LOCK_PATIENCE_S = 300.0


class Place:
    """An object store, or whatever pyarrow's file systems reach. Paths are relative to the archive's root."""

    def __init__(self, filesystem: fs.FileSystem, root: str, *, shown: str) -> None:
        self.filesystem, self.root, self.shown = filesystem, root.rstrip("/"), shown

    def __str__(self) -> str:
        return self.shown

    def full(self, path: str) -> str:
        """The path as the file system wants it."""
        return f"{self.root}/{path}" if path else self.root

    def names(self, folder: str) -> tuple[list[str], list[str]]:
        """(files, folders) directly in a folder, without hidden ones; none where it does not exist."""
        with self._errors():
            entries = self.filesystem.get_file_info(fs.FileSelector(self.full(folder), allow_not_found=True))
        seen = [entry for entry in entries if not entry.base_name.startswith(".")]
        files = [entry.base_name for entry in seen if entry.type == fs.FileType.File]
        return sorted(files), sorted(entry.base_name for entry in seen if entry.type == fs.FileType.Directory)

    def read(self, path: str) -> bytes | None:
        """A small file's bytes; None where there is none."""
        try:
            with self._errors(), self.filesystem.open_input_stream(self.full(path)) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place of whatever was there."""
        with self._errors(), self.filesystem.open_output_stream(self.full(path)) as file:
            file.write(data)

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""
        try:
            with self._errors():
                self.filesystem.delete_file(self.full(path))
        except FileNotFoundError:
            return

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the name for one writer. Raises HistoryUnavailable, here for every place that has no lock."""
        raise HistoryUnavailable(f"{name} at {self.shown} cannot be held for one writer: p33 writes to folders and to "
                                 "s3:// only; set P33_HISTORY_URL to one of them")
        yield

    @contextmanager
    def _errors(self, *, missing: bool = False) -> Iterator[None]:
        """What the place says instead of doing it. `missing`: also that something is not there, to a writer."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not missing:
                raise
            raise HistoryUnavailable(
                f"the history at {self.shown} cannot be used: {str(error)[:200]}. Nothing was lost; "
                "see that P33_HISTORY_URL is right and can be written, and run again") from error


class Folder(Place):
    """A folder of this machine, or one that several mount."""

    def __init__(self, root: str) -> None:
        super().__init__(fs.LocalFileSystem(), root, shown=root)

    def write(self, path: str, data: bytes) -> None:
        final = Path(self.full(path))
        # Pods that mount the same folder often have the same process id: the name is one of this write alone.
        hidden = final.parent / f".tmp-{secrets.token_hex(8)}-{final.name}"
        with self._errors(missing=True):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                with hidden.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self.hand_over(*_between(Path(self.root), hidden))
                hidden.replace(final)
            except OSError:
                hidden.unlink(missing_ok=True)  # half a file would fill what is full already
                raise
            self._sync(final.parent)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the name for this process; whoever holds it is waited for. What a killed writer left is removed."""
        with self._errors(missing=True):
            Path(self.root).mkdir(parents=True, exist_ok=True)
            lock = (Path(self.root) / f".lock-{name}").open("a")
            self.hand_over(Path(lock.name))
        with lock:
            with self._errors(missing=True):  # some shares know no locks
                self._acquire(lock.fileno(), name)
                for left in Path(self.root).glob(f"{name}/date=*/.tmp-*"):
                    left.unlink(missing_ok=True)
            yield

    def hand_over(self, *paths: Path) -> None:
        """What root made here becomes the folder's owner's: an operator's command must not shut the service out.

        Links are not followed, since whoever owns the folder may put one there.
        """
        if os.geteuid() == 0:
            owner = Path(self.root).stat()
            for path in paths:
                with suppress(PermissionError):  # a root that may not: of a container, or on a share
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def _acquire(self, number: int, name: str) -> None:
        until_s = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until_s:
                    raise HistoryUnavailable(
                        f"{name} at {self.shown} has been held by another run for {LOCK_PATIENCE_S:.0f} s: "
                        "wait for it to end, or end it") from None
            time.sleep(0.05)

    def _sync(self, folder: Path) -> None:
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


class Bucket(Place):
    """A bucket that speaks S3. A writer holds it by a lock object; each write first sees that it still does."""

    def __init__(self, url: str, filesystem: fs.FileSystem, root: str, *, shown: str) -> None:
        super().__init__(filesystem, root, shown=shown)
        self.lease_s = LEASE_S
        self._url = urlsplit(url)
        self._held: dict[str, Lock] = {}

    def write(self, path: str, data: bytes) -> None:
        lock = self._held.get(path.split("/")[0])
        if lock is not None:
            lock.renew()
        super().write(path, data)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the name for this process; whoever holds it is waited for, a killed one for the length of a lease."""
        bucket, _, folder = self.root.partition("/")
        key = "/".join(part for part in (folder, f".lock-{name}") if part)
        lock = Lock(self._client, bucket, key, shown=f"{name} at {self.shown}", lease_s=self.lease_s)
        with lock.held(patience_s=LOCK_PATIENCE_S):
            self._held[name] = lock
            try:
                yield
            finally:
                del self._held[name]

    @cached_property
    def _client(self) -> Any:
        """The client that can write on a condition, which pyarrow's cannot; it reads the same words of the URL."""
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise HistoryUnavailable(f"the history at {self.shown} cannot be written without boto3: "
                                     "install p33[s3]") from None
        said = {name: values[-1] for name, values in parse_qs(self._url.query).items()}
        endpoint = said.get("endpoint_override")
        return boto3.client(
            "s3", region_name=said.get("region"), config=Config(connect_timeout=10, read_timeout=20),
            endpoint_url=f"{said.get('scheme', 'https')}://{endpoint}" if endpoint else None)


def _between(root: Path, path: Path) -> list[Path]:
    """The path and every folder above it below the root."""
    return [root / below for below in (path.relative_to(root), *path.relative_to(root).parents)][:-1]


def place_at(url: str) -> Place:
    """The place a P33_HISTORY_URL names. Raises HistoryUnavailable for one that cannot be understood.

    An object store that is not Amazon's is named in the URL: `s3://bucket/path?endpoint_override=host:port&scheme=http`;
    its credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), never from the URL.
    """
    if "://" not in url:
        return Folder(str(Path(url).absolute()))
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise HistoryUnavailable(f"P33_HISTORY_URL={url[:80]} names no folder: after file:// comes its whole path, "
                                     "as in file:///var/lib/p33")
        return Folder(unquote(parts.path))
    try:
        if not parts.hostname:
            raise ValueError("it names no bucket")
        filesystem, root = fs.FileSystem.from_uri(url)
    except (OSError, ValueError) as error:
        raise HistoryUnavailable(f"P33_HISTORY_URL={shown} cannot be used: {str(error)[:200]}") from None
    return Bucket(url, filesystem, root, shown=shown) if parts.scheme == "s3" else Place(filesystem, root, shown=shown)
