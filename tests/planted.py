"""A text that is found nowhere else for every secret setting, and how to find it again in whatever comes out."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet

from p33_sidecar.settings import SETTINGS, Setting

PASSWORD = "redis/pass word@1:7f3e"
SECRETS = {
    "REDIS_PASSWORD": PASSWORD, "BINANCE_API_KEY": "main-api-key-5c1d", "BINANCE_API_SECRET": "main-api-secret-88aa",
    "BINANCE_TESTNET_API_KEY": "test-api-key-e0b2", "BINANCE_TESTNET_API_SECRET": "test-api-secret-41cc",
    "P33_PERMIT_KEY": "permit key of 32 bytes & more-9d9d!",
    "P33_PERMIT_KEY_PREVIOUS": "the key before it, of 32 bytes-33ff",
    "P33_WEBHOOK_URL": "https://hooks.example/T0KEN-6b6b",
}


def usable(setting: Setting) -> str:
    """A text that a secret setting not named above takes, and that is found nowhere else."""
    mark = f"{setting.name.lower()}-77ee-planted"
    for text in (f"{mark} of enough bytes", *(f"{scheme}://user:{mark}@h.example/x" for scheme in (
            "https", "postgresql", "redis", "s3"))):
        try:
            setting.read(text)
        except (ValueError, ArithmeticError):
            continue
        return text
    raise AssertionError(f"plant a value for {setting.name}")


BY_URL = {"REDIS_URL": f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{{port}}/0"}
SECRETS |= {s.name: usable(s) for s in SETTINGS if s.secret and s.name not in {*SECRETS, *BY_URL}}


def forms(secret: str) -> set[str]:
    """As a log, a URL, a JSON text or a header might carry it."""
    encoded = {base64.b64encode(text.encode()).decode().rstrip("=") for text in (secret, f":{secret}")}
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], *encoded}


WORDS = {form for name, secret in SECRETS.items() for form in forms(secret)} | {"T0KEN-6b6b", "77ee-planted"}


def found_in(text: str) -> set[str]:
    """The secrets that a text carries."""
    return {word for word in WORDS if word in text}


def read_all(folder: Path) -> dict[str, str]:
    """Every file below a folder by its name there, as text: tables row by row, databases as they would be dumped."""
    return {str(path.relative_to(folder)): _read(path) for path in folder.rglob("*")
            if path.is_file() and path.stat().st_size}


def _read(path: Path) -> str:
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        return str(pyarrow.parquet.ParquetFile(path).read().to_pylist())
    if raw.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return "\n".join(database.iterdump())
    return raw.decode(errors="replace")
