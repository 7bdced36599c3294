"""The errors of p33: each says whose fault it is and what the caller does.

    P33Error
    ├── ExchangeUnavailable   the exchange gave no usable answer: what it would have said is unknown
    │   ├── SymbolUnlisted    it lists no such symbol
    │   └── ExchangeBanned    it told us to stay away until a time: send nothing before it
    ├── ExchangeRejected      a definite refusal with a code: nothing happened there
    ├── OutcomeUnknown        an order may or may not have executed: look it up, never send it again
    ├── StoreUnavailable      Redis gave no answer: stop issuing and taking
    ├── ContractViolated      something that must never be is: stop
    └── ConfigurationInvalid  a setting cannot be used: do not start

No message carries a secret: a setting that holds one is named, never quoted.
"""

from __future__ import annotations


class P33Error(Exception):
    """Anything p33 raises on purpose."""


class ExchangeUnavailable(P33Error):
    """No usable answer. `kind` is a short label (`timeout`, `html`, `http_5xx`, ...) for metrics and records."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


class SymbolUnlisted(ExchangeUnavailable):
    """The exchange lists no such symbol (-1121) now; what it knew of one that it listed before stays unknown."""


class ExchangeBanned(ExchangeUnavailable):
    """The exchange named a time before which nothing may be sent (HTTP 418/429). `until_ms` is Unix time."""

    def __init__(self, until_ms: int, detail: str = "") -> None:
        super().__init__("banned", detail or f"no request before {until_ms}")
        self.until_ms = until_ms


class ExchangeRejected(P33Error):
    """A definite refusal (HTTP 4xx with a negative code): nothing happened at the exchange."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class OutcomeUnknown(P33Error):
    """The order may have executed (timeouts, 502/504, -1006, -1007, dropped connection)."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


class StoreUnavailable(P33Error):
    """Redis did not answer, or not in time."""


class ContractViolated(P33Error):
    """A state that the contract rules out was found; the caller stops instead of guessing."""


class ConfigurationInvalid(P33Error):
    """One or more settings cannot be used. `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
