"""All settings: one table of names, defaults, meanings and what is allowed; read once at the start.

Stands beside the packages, not inside one, because the sidecar, the Apply Layer, the operator's tool and the
pipeline read the same table. A secret's value never appears in a message, a repr or a document.
Source: contract, chapter 6.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from . import _readers as _read
from ._readers import Secret, bare, shown
from .core import quantity
from .core.model import Policy
from .core.permit import LEAST_KEY_BYTES
from .errors import ConfigurationInvalid

TEST_EXCHANGE: Final = "https://demo-fapi.binance.com"
MAIN_EXCHANGE: Final = "https://fapi.binance.com"
TEST_HOSTS: Final = ("demo-fapi.binance.com", "testnet.binancefuture.com")
MAIN_PAIR: Final = ("BINANCE_API_KEY", "BINANCE_API_SECRET")
TEST_PAIR: Final = ("BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET")


class Setting(msgspec.Struct, frozen=True):
    """One environment variable. `read` turns its text into the value or raises ValueError."""

    name: str
    default: str
    allowed: str
    meaning: str
    read: Callable[[str], Any] = str
    secret: bool = False
    show: Callable[[Any], str] = str
    """The value as the operator would write it; never asked for a secret."""


def _seconds(value_ms: int) -> str:
    return quantity.text(quantity.seconds(value_ms))


def _true_false(value: bool) -> str:
    return "true" if value else "false"


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _listed(symbols: frozenset[str] | None) -> str:
    return "*" if symbols is None else ",".join(sorted(symbols))


_SECONDS = "seconds, fractions allowed"
SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("REDIS_URL", "", "redis://, rediss:// or unix:// URL, its database a number, no options but db, username,"
            " password and ssl_*", "The server; wins over the parts below", _read.redis_url, secret=True),
    Setting("REDIS_HOST", "localhost", "a host name", "The server's host", _read.host),
    Setting("REDIS_PORT", "6379", "1 to 65535", "The server's port", _read.whole(1, 65535)),
    Setting("REDIS_DB", "0", "0 to 1000000", "The database's number", _read.whole(0, 1_000_000)),
    Setting("REDIS_USERNAME", "", "a name", "The Redis user", _read.name),
    Setting("REDIS_PASSWORD", "", "any text", "Its password", Secret, secret=True),
    Setting("BINANCE_API_KEY", "", "a key", "Read-only is enough for the sidecar", Secret, secret=True),
    Setting("BINANCE_API_SECRET", "", "a secret", "Signs the requests", Secret, secret=True),
    Setting("BINANCE_TESTNET_API_KEY", "", "a key", "Wins while BINANCE_TESTNET is true", Secret, secret=True),
    Setting("BINANCE_TESTNET_API_SECRET", "", "a secret", "Wins while BINANCE_TESTNET is true", Secret, secret=True),
    Setting("BINANCE_TESTNET", "true", "true or false", "Which exchange is the default", _read.boolean,
            show=_true_false),
    Setting("P33_EXCHANGE_URL", "", "http:// or https:// URL without login, query or fragment",
            f"The exchange; {TEST_EXCHANGE}, or {MAIN_EXCHANGE} with BINANCE_TESTNET=false", _read.base_url),
    Setting("P33_ALLOWLIST", "BTCUSDT", "symbols separated by commas, or *",
            "Symbols in scope; those with a position always are", _read.allowlist, show=_listed),
    Setting("P33_POLL_SEC", "5", f"0.5 to 3600, {_SECONDS}", "Between two polls of the exchange",
            _read.milliseconds("0.5", "3600"), show=_seconds),
    Setting("P33_STALE_THRESHOLD_SEC", "10", f"0.1 to 3600, {_SECONDS}", "A snapshot older than this denies",
            _read.milliseconds("0.1", "3600"), show=_seconds),
    Setting("P33_COOLDOWN_SEC", "15", f"0 to 3600, {_SECONDS}", "Rest after an order before the next permit",
            _read.milliseconds("0", "3600"), show=_seconds),
    Setting("P33_QTY_TOLERANCE_PCT", "1.0", "0 to 100, fractions allowed",
            "Allowed difference of book and exchange, in percent of the exchange's amount", _read.decimal("0", "100"),
            show=quantity.text),
    Setting("P33_PERMIT_TTL", "60", f"0.1 to 3600, {_SECONDS}", "How long a permit lives",
            _read.milliseconds("0.1", "3600"), show=_seconds),
    Setting("P33_PLAN_MAX_AGE_SEC", "60", f"0.1 to 86400, {_SECONDS}", "A plan older than this is denied",
            _read.milliseconds("0.1", "86400"), show=_seconds),
    Setting("P33_REFRESH_BUDGET_MS", "800", "0 to 60000, whole milliseconds",
            "How long a verdict may wait for a fresh snapshot", _read.whole(0, 60_000)),
    Setting("P33_LEDGER_BOOTSTRAP", "adopt", "adopt or deny", "What a symbol never seen before gets",
            _read.one_of("adopt", "deny", fold=str.lower)),
    Setting("P33_PLAN_STREAM", "quantum:apply.plan", "a key", "Where plans are published", _read.name),
    Setting("P33_RESULT_STREAM", "quantum:apply.result", "a key", "Where results are published", _read.name),
    Setting("P33_PERMIT_KEY", "", f"at least {LEAST_KEY_BYTES} bytes", "Signs permits", _read.key, secret=True),
    Setting("P33_PERMIT_KEY_PREVIOUS", "", f"at least {LEAST_KEY_BYTES} bytes",
            "Still verifies permits while P33_PERMIT_KEY is new (`p33 rotate-key`)", _read.key, secret=True),
    Setting("P33_HISTORY_URL", "./history", "a path, file:// or s3:// URL", "Where the pipeline keeps its archive",
            _read.place, show=shown),
    Setting("P33_REGISTRY_URL", "", "sqlite:/// or postgresql:// URL",
            "What people say of breaks; a file of SQLite's beside the archive by default", _read.database, secret=True),
    Setting("P33_WEBHOOK_URL", "", "http:// or https:// URL", "Where findings and failures are sent",
            _read.url("http", "https"), secret=True),
    Setting("P33_DAGSTER_URL", "", "http:// or https:// base URL",
            "Where people reach Dagster; what is sent to the webhook links to its runs", _read.base_url),
    Setting("APPLY_MODE", "dry_run", "dry_run or testnet", "Whether the Apply Layer sends orders",
            _read.one_of("dry_run", "testnet", fold=str.lower)),
    Setting("APPLY_GATE", "both", "both or governor", "governor: the rollback to Governor-only mode",
            _read.one_of("both", "governor", fold=str.lower)),
    Setting("APPLY_PERMIT_WAIT_MS", "1200", "0 to 60000, whole milliseconds", "How long a plan waits for its permits",
            _read.whole(0, 60_000)),
    Setting("APPLY_METRICS_PORT", "8043", "0 to 65535", "The Apply Layer's metrics; 0 takes any free port",
            _read.whole(0, 65535)),
    Setting("APPLY_ALLOW_MAINNET", "no", "yes or no", "Whether the Apply Layer may use the main exchange",
            _read.boolean, show=_yes_no),
    Setting("P33_METRICS_HOST", "127.0.0.1", "an address", "Where the page and the metrics listen", _read.name),
    Setting("P33_METRICS_PORT", "8045", "0 to 65535", "Their port; 0 takes any free port", _read.whole(0, 65535)),
    Setting("P33_INSTANCE", "", "a name without white space", "This instance's name; the host's by default",
            _read.name),
    Setting("P33_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR", "How much is logged",
            _read.one_of("DEBUG", "INFO", "WARNING", "ERROR", fold=str.upper)),
    Setting("P33_LOG_FORMAT", "text", "text or json", "json for machines",
            _read.one_of("text", "json", fold=str.lower)),
)


class Settings:
    """The values in force. `settings["P33_POLL_SEC"]` is the value read (times in ms); the rest is derived."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __repr__(self) -> str:
        return "Settings(" + ", ".join(f"{name}={text}" for name, text in self.public().items()) + ")"

    def public(self) -> dict[str, str]:
        """Every setting as its text in the environment would be; a secret only as set or not."""
        return {
            s.name: ("set" if self[s.name] else "") if s.secret else s.show(self[s.name])
            for s in SETTINGS
        }

    def warnings(self) -> tuple[str, ...]:
        """What the service runs with all the same and the operator should know, one line each; no secrets."""
        found = []
        if self.credentials is None:
            missing = " and ".join(name for name in self._pair if not self[name])
            found.append(f"{missing} not set: no exchange credentials, every plan is denied exchange_unconfigured")
        if self.policy.loosened:
            stale, poll = _seconds(self["P33_STALE_THRESHOLD_SEC"]), _seconds(self["P33_POLL_SEC"])
            found.append(f"P33_STALE_THRESHOLD_SEC={stale} is loosened: above max(3 polls of {poll} s, 10 s) or 30 s")
        if self.permit_key is None:
            found.append("P33_PERMIT_KEY not set: permits are unsigned, anybody who can write the key can forge one")
        return tuple(found)

    @property
    def policy(self) -> Policy:
        """The thresholds that verdicts are taken under."""
        return Policy(
            stale_threshold_ms=self["P33_STALE_THRESHOLD_SEC"], cooldown_ms=self["P33_COOLDOWN_SEC"],
            qty_tolerance_pct=self["P33_QTY_TOLERANCE_PCT"], permit_ttl_ms=self["P33_PERMIT_TTL"],
            plan_max_age_ms=self["P33_PLAN_MAX_AGE_SEC"], poll_ms=self["P33_POLL_SEC"],
        )

    @property
    def redis_url(self) -> str:
        """The server's URL, password included: never log it."""
        if self["REDIS_URL"]:
            return self["REDIS_URL"]
        user, password = quote(self["REDIS_USERNAME"], safe=""), quote(self["REDIS_PASSWORD"].reveal(), safe="")
        login = f"{user}:{password}@" if user or password else ""
        host = f"[{self['REDIS_HOST']}]" if ":" in self["REDIS_HOST"] else self["REDIS_HOST"]
        return f"redis://{login}{host}:{self['REDIS_PORT']}/{self['REDIS_DB']}"

    @property
    def exchange_url(self) -> str:
        return self["P33_EXCHANGE_URL"] or (TEST_EXCHANGE if self["BINANCE_TESTNET"] else MAIN_EXCHANGE)

    @property
    def is_main_exchange(self) -> bool:
        """Whether orders would move real money: any Binance host that is not a known test host."""
        host = (urlsplit(self.exchange_url).hostname or "").rstrip(".")
        return host.endswith(("binance.com", "binancefuture.com")) and host not in TEST_HOSTS

    @property
    def credentials(self) -> tuple[str, Secret] | None:
        """(API key, secret), or None where either half is missing; half a pair is not made up from the other pair."""
        key, secret = self._pair
        return (self[key].reveal(), self[secret]) if self[key] and self[secret] else None

    @property
    def _pair(self) -> tuple[str, str]:
        """The test pair wins while BINANCE_TESTNET is true and any of it is set."""
        tested = self["BINANCE_TESTNET"] and any(self[name] for name in TEST_PAIR)
        return TEST_PAIR if tested else MAIN_PAIR

    @property
    def permit_key(self) -> bytes | None:
        """What permits are signed with."""
        return self["P33_PERMIT_KEY"].reveal().encode() or None

    @property
    def permit_keys(self) -> tuple[bytes, ...]:
        """The keys under which a signature holds, the signing one first: two of them while one replaces the other."""
        kept = (self["P33_PERMIT_KEY"], self["P33_PERMIT_KEY_PREVIOUS"])
        return tuple(key.reveal().encode() for key in kept if key)

    @property
    def instance(self) -> str:
        return self["P33_INSTANCE"] or socket.gethostname() or "p33"


def load(env: Mapping[str, str]) -> Settings:
    """Read every setting. Raises ConfigurationInvalid with one line for each that cannot be used."""
    values, problems = {}, []
    for setting in SETTINGS:
        try:
            values[setting.name] = _value(setting, env)
        except _Unusable as unusable:
            problems.append(str(unusable))
    plans, results = values.get("P33_PLAN_STREAM"), values.get("P33_RESULT_STREAM")
    if plans is not None and plans == results:
        problems.append(f"P33_RESULT_STREAM={shown(results)}: allowed is another key than P33_PLAN_STREAM")
    if problems:
        raise ConfigurationInvalid(problems)
    return Settings(values)


class _Unusable(Exception):
    """One setting's line for the operator."""


def _value(setting: Setting, env: Mapping[str, str]) -> Any:
    text = bare(env.get(setting.name, ""))
    if setting.secret and not text:
        text = _kept_secret(setting.name, env)
    if not text and not setting.default:
        return setting.read("") if setting.read in (Secret, _read.key) else ""
    try:
        return setting.read(text or setting.default)
    except (ValueError, ArithmeticError):
        given = "(secret)" if setting.secret else shown(text)
        # The cause is dropped on purpose: a library's message may quote a part of a secret.
        raise _Unusable(f"{setting.name}={given}: allowed is {setting.allowed}") from None


def _kept_secret(name: str, env: Mapping[str, str]) -> str:
    """A secret that is not in the environment: in the file that `…_FILE` names, or among systemd's credentials.

    `LoadCredential=p33:DIRECTORY` gives every file of the directory as `p33_<its name>` in $CREDENTIALS_DIRECTORY
    (systemd.exec(5)); the files are called like the settings, and any of them may be missing.
    """
    path = bare(env.get(f"{name}_FILE", ""))
    if path:
        return _file_text(f"{name}_FILE", path)
    folder = env.get("CREDENTIALS_DIRECTORY", "")
    given = Path(folder, f"p33_{name}")
    return _file_text(f"credential p33_{name}", str(given)) if folder and given.exists() else ""


def _file_text(name: str, path: str) -> str:
    """The file's text less its final newline; a file that was named and holds nothing is a mistake, not 'unset'."""
    try:
        text = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        problem = "" if text else "it is empty"
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "not UTF-8 text"
    if problem:
        raise _Unusable(f"{name}={shown(path)}: allowed is a file that can be read ({problem})")
    return text
