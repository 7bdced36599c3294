"""All settings: one table of names, defaults, meanings and what is allowed; read once at the start.

Stands beside the packages, not inside one, because the sidecar, the Apply Layer, the operator's tool and the
pipeline read the same table. A secret's value never appears in a message, a repr or a document.
Source: contract, chapter 6.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from .core.model import Policy
from .core.plan import MessageRefused, symbol_of
from .core.quantity import parse
from .errors import ConfigurationInvalid

TEST_EXCHANGE: Final = "https://demo-fapi.binance.com"
MAIN_EXCHANGE: Final = "https://fapi.binance.com"
LEAST_KEY_BYTES: Final = 32


class Setting(msgspec.Struct, frozen=True):
    """One environment variable. `read` turns its text into the value or raises ValueError."""

    name: str
    default: str
    allowed: str
    meaning: str
    read: Callable[[str], Any] = str
    secret: bool = False


class Secret:
    """A value that does not print itself. `.reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def _boolean(text: str) -> bool:
    table = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in table:
        raise ValueError(text)
    return table[text.lower()]


def _decimal(least: str, most: str) -> Callable[[str], Decimal]:
    def read(text: str) -> Decimal:
        value = parse(text)
        if not Decimal(least) <= value <= Decimal(most):
            raise ValueError(text)
        return value

    return read


def _milliseconds(least: str, most: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        return int(_decimal(least, most)(text).scaleb(3))

    return read


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return read


def _one_of(*values: str, fold: Callable[[str], str] = str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if fold(text) not in values:
            raise ValueError(text)
        return fold(text)

    return read


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or (parts.scheme != "unix" and not parts.hostname) or (parts.port or 0) < 0:
            raise ValueError(text)
        return text.rstrip("/") if parts.scheme.startswith("http") else text

    return read


def _allowlist(text: str) -> frozenset[str] | None:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["*"]:
        return None
    try:
        return frozenset(symbol_of(name) for name in names)
    except MessageRefused as refused:
        raise ValueError(text) from refused


def _key(text: str) -> Secret:
    if text and len(text.encode()) < LEAST_KEY_BYTES:
        raise ValueError("too short")
    return Secret(text)


def _name(text: str) -> str:
    if not text.isprintable() or any(c.isspace() for c in text) or len(text) > 128:
        raise ValueError(text)
    return text


_SECONDS = "seconds, fractions allowed"
SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("REDIS_URL", "", "redis://, rediss:// or unix:// URL", "The server; wins over the parts below",
            _url("redis", "rediss", "unix"), secret=True),
    Setting("REDIS_HOST", "localhost", "a host name", "The server's host", _name),
    Setting("REDIS_PORT", "6379", "1 to 65535", "The server's port", _whole(1, 65535)),
    Setting("REDIS_DB", "0", "0 to 1000000", "The database's number", _whole(0, 1_000_000)),
    Setting("REDIS_USERNAME", "", "a name", "The Redis user", _name),
    Setting("REDIS_PASSWORD", "", "any text", "Its password", Secret, secret=True),
    Setting("BINANCE_API_KEY", "", "a key", "Read-only is enough for the sidecar", Secret, secret=True),
    Setting("BINANCE_API_SECRET", "", "a secret", "Signs the requests", Secret, secret=True),
    Setting("BINANCE_TESTNET_API_KEY", "", "a key", "Wins while BINANCE_TESTNET is true", Secret, secret=True),
    Setting("BINANCE_TESTNET_API_SECRET", "", "a secret", "Wins while BINANCE_TESTNET is true", Secret, secret=True),
    Setting("BINANCE_TESTNET", "true", "true or false", "Which exchange is the default", _boolean),
    Setting("P33_EXCHANGE_URL", "", "http:// or https:// URL",
            f"The exchange; {TEST_EXCHANGE}, or {MAIN_EXCHANGE} with BINANCE_TESTNET=false", _url("http", "https")),
    Setting("P33_ALLOWLIST", "BTCUSDT", "symbols separated by commas, or *",
            "Symbols in scope; those with a position always are", _allowlist),
    Setting("P33_POLL_SEC", "5", f"0.5 to 3600, {_SECONDS}", "Between two polls of the exchange",
            _milliseconds("0.5", "3600")),
    Setting("P33_STALE_THRESHOLD_SEC", "10", f"0.1 to 3600, {_SECONDS}", "A snapshot older than this denies",
            _milliseconds("0.1", "3600")),
    Setting("P33_COOLDOWN_SEC", "15", f"0 to 3600, {_SECONDS}", "Rest after an order before the next permit",
            _milliseconds("0", "3600")),
    Setting("P33_QTY_TOLERANCE_PCT", "1.0", "0 to 100, fractions allowed",
            "Allowed difference of book and exchange, in percent of the exchange's amount", _decimal("0", "100")),
    Setting("P33_PERMIT_TTL", "60", f"0.1 to 3600, {_SECONDS}", "How long a permit lives",
            _milliseconds("0.1", "3600")),
    Setting("P33_PLAN_MAX_AGE_SEC", "60", f"0.1 to 86400, {_SECONDS}", "A plan older than this is denied",
            _milliseconds("0.1", "86400")),
    Setting("P33_REFRESH_BUDGET_MS", "800", "0 to 60000, whole milliseconds",
            "How long a verdict may wait for a fresh snapshot", _whole(0, 60_000)),
    Setting("P33_LEDGER_BOOTSTRAP", "adopt", "adopt or deny", "What a symbol never seen before gets",
            _one_of("adopt", "deny", fold=str.lower)),
    Setting("P33_PLAN_STREAM", "quantum:apply.plan", "a key", "Where plans are published", _name),
    Setting("P33_RESULT_STREAM", "quantum:apply.result", "a key", "Where results are published", _name),
    Setting("P33_PERMIT_KEY", "", f"at least {LEAST_KEY_BYTES} bytes", "Signs permits", _key, secret=True),
    Setting("P33_HISTORY_URL", "./history", "a path, file:// or s3:// URL", "Where the pipeline keeps its archive"),
    Setting("P33_WEBHOOK_URL", "", "http:// or https:// URL", "Where findings and failures are sent",
            _url("http", "https"), secret=True),
    Setting("APPLY_MODE", "dry_run", "dry_run or testnet", "Whether the Apply Layer sends orders",
            _one_of("dry_run", "testnet", fold=str.lower)),
    Setting("APPLY_GATE", "both", "both or governor", "governor: the rollback to Governor-only mode",
            _one_of("both", "governor", fold=str.lower)),
    Setting("APPLY_PERMIT_WAIT_MS", "1200", "0 to 60000, whole milliseconds", "How long a plan waits for its permits",
            _whole(0, 60_000)),
    Setting("APPLY_METRICS_PORT", "8043", "0 to 65535", "The Apply Layer's metrics; 0 takes any free port",
            _whole(0, 65535)),
    Setting("APPLY_ALLOW_MAINNET", "no", "yes or no", "Whether the Apply Layer may use the main exchange", _boolean),
    Setting("P33_METRICS_HOST", "127.0.0.1", "an address", "Where the page and the metrics listen", _name),
    Setting("P33_METRICS_PORT", "8045", "0 to 65535", "Their port; 0 takes any free port", _whole(0, 65535)),
    Setting("P33_INSTANCE", "", "a name without white space", "This instance's name; the host's by default", _name),
    Setting("P33_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR", "How much is logged",
            _one_of("DEBUG", "INFO", "WARNING", "ERROR", fold=str.upper)),
    Setting("P33_LOG_FORMAT", "text", "text or json", "json for machines", _one_of("text", "json", fold=str.lower)),
)
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


class Settings:
    """The values in force. `settings["P33_POLL_SEC"]` is the value read (times in ms); the rest is derived."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __repr__(self) -> str:
        return "Settings(" + ", ".join(f"{name}={text}" for name, text in self.public().items()) + ")"

    def public(self) -> dict[str, str]:
        """Every setting as text; a secret only as set or not."""
        return {
            s.name: ("set" if self._values[s.name] else "") if s.secret else _shown(self._values[s.name])
            for s in SETTINGS
        }

    @property
    def policy(self) -> Policy:
        """The thresholds that verdicts are taken under."""
        return Policy(
            stale_threshold_ms=self["P33_STALE_THRESHOLD_SEC"], cooldown_ms=self["P33_COOLDOWN_SEC"],
            qty_tolerance_pct=self["P33_QTY_TOLERANCE_PCT"], permit_ttl_ms=self["P33_PERMIT_TTL"],
            plan_max_age_ms=self["P33_PLAN_MAX_AGE_SEC"], poll_ms=self["P33_POLL_SEC"],
        )

    @property
    def loosened(self) -> bool:
        """Whether the stale threshold exceeds max(3 polls, 10 s) or 30 s (incident I24)."""
        stale = self["P33_STALE_THRESHOLD_SEC"]
        return stale > max(3 * self["P33_POLL_SEC"], 10_000) or stale > 30_000

    @property
    def redis_url(self) -> str:
        """The server's URL, password included: never log it."""
        if self["REDIS_URL"]:
            return self["REDIS_URL"]
        user, password = quote(self["REDIS_USERNAME"], safe=""), quote(self["REDIS_PASSWORD"].reveal(), safe="")
        login = f"{user}:{password}@" if user or password else ""
        return f"redis://{login}{self['REDIS_HOST']}:{self['REDIS_PORT']}/{self['REDIS_DB']}"

    @property
    def exchange_url(self) -> str:
        return self["P33_EXCHANGE_URL"] or (TEST_EXCHANGE if self["BINANCE_TESTNET"] else MAIN_EXCHANGE)

    @property
    def is_main_exchange(self) -> bool:
        """Whether orders would move real money: any Binance host that is not a known test host."""
        host = urlsplit(self.exchange_url).hostname or ""
        test_hosts = ("demo-fapi.binance.com", "testnet.binancefuture.com")
        return host.endswith((".binance.com", ".binancefuture.com", "binance.com")) and host not in test_hosts

    @property
    def credentials(self) -> tuple[str, Secret] | None:
        """(API key, secret), or None where either half is missing; the test pair wins on the test exchange."""
        pairs = [("BINANCE_API_KEY", "BINANCE_API_SECRET")]
        if self["BINANCE_TESTNET"]:
            pairs.insert(0, ("BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET"))
        for key, secret in pairs:
            if self[key] and self[secret]:
                return self[key].reveal(), self[secret]
        return None

    @property
    def permit_key(self) -> bytes | None:
        return self["P33_PERMIT_KEY"].reveal().encode() or None

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
    if problems:
        raise ConfigurationInvalid(problems)
    return Settings(values)


class _Unusable(Exception):
    pass


def _value(setting: Setting, env: Mapping[str, str]) -> Any:
    text = bare(env.get(setting.name, ""))
    path = bare(env.get(f"{setting.name}_FILE", "")) if setting.secret else ""
    if path and not text:
        try:
            text = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise _Unusable(f"{setting.name}_FILE={path}: a file that can be read ({reason})") from error
    if not text and not setting.default:
        return setting.read("") if setting.read in (Secret, _key) else ""
    try:
        return setting.read(text or setting.default)
    except (ValueError, ArithmeticError) as error:
        shown = "(secret)" if setting.secret else text
        raise _Unusable(f"{setting.name}={shown}: allowed is {setting.allowed}") from error


def bare(text: str) -> str:
    """The value without surrounding white space, one pair of quotes, and a comment after it."""
    text = text.strip()
    if text[:1] in ("'", '"') and text.find(text[0], 1) > 0:
        end = text.find(text[0], 1)
        rest = text[end + 1:]
        if not rest.strip() or (rest[0].isspace() and rest.strip().startswith("#")):
            return text[1:end]
    if text.startswith("#"):
        return ""
    for at in range(1, len(text)):
        if text[at] == "#" and text[at - 1].isspace():
            return text[:at].strip()
    return text


def _shown(value: Any) -> str:
    if value is None:
        return "*"
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return str(value)
