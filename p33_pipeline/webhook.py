"""Messages to P33_WEBHOOK_URL: what, since when, how much, and where to look. The URL is a secret and stays one."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from p33_sidecar.errors import P33Error

TIMEOUT_S = 10.0


class WebhookFailed(P33Error):
    """The message was not taken; the same one is sent again at the next turn."""


class Message(msgspec.Struct, frozen=True):
    """`text` is the whole of it in a line, as chat systems show it; times are ISO 8601 in UTC."""

    text: str
    what: str
    since: str
    how_much: str
    link: str


def run_link(dagster_url: str, run_id: str) -> str:
    """Where the run is looked at; without P33_DAGSTER_URL what to look for."""
    return f"{dagster_url}/runs/{run_id}" if dagster_url else f"run {run_id}"


def post(url: str, message: Message) -> None:
    """Send it. Raises WebhookFailed for anything but a 2xx answer, without the URL or what the answer says.

    What follows the status is not waited for: a hook that never ends its answer has taken the message all the same.
    """
    try:
        with httpx.stream("POST", url, json=body(message), timeout=TIMEOUT_S) as answer:
            pass
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WebhookFailed(f"P33_WEBHOOK_URL gave no answer ({type(error).__name__})") from None
    if not answer.is_success:
        raise WebhookFailed(f"P33_WEBHOOK_URL answered {answer.status_code}")


def body(message: Message) -> dict[str, Any]:
    """The JSON that is sent."""
    return msgspec.to_builtins(message)
