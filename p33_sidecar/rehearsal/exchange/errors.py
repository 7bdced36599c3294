"""The refusals of the simulated exchange: one error type, and every text it says, as the exchange documents it.

No text may be worded here that the exchange's error-code page (2026-05-28) does not have; `%s` are its own.
"""

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[int, str]] = {
    -1000: "An unknown error occured while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1003: "Too many requests; current limit is %s requests per minute."
    " Please use the websocket for live updates to avoid polling the API.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Request throttled by system-level protection."
    " Reduce-only/close-position orders are exempt. Please try again.",
    -1015: "Too many new orders; current limit is %s orders per %s.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1023: "Start time is greater than end time.",
    -1100: "Illegal characters found in parameter '%s'; legal range is '%s'.",
    -1101: "Duplicate values for a parameter detected.",
    -1102: "Mandatory parameter '%s' was not sent, was empty/null, or malformed.",
    -1105: "Parameter '%s' was empty.",
    -1106: "Parameter '%s' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1121: "Invalid symbol.",
    -1125: "This listenKey does not exist. Please use `POST /fapi/v1/listenKey` to recreate `listenKey`",
    -1127: "More than %s hours between startTime and endTime.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '%s' is not valid.",
    -2011: 'Cancel request failure as open order not found in the orderbook: "Unknown order sent".',
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2019: "Margin is insufficient.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -4001: "Price less than 0.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id is not valid.",
    -4016: "Price is higher than mark price multiplier cap.",
    -4023: "Qty not increased by step size.",
    -4024: "Price is lower than mark price multiplier floor.",
    -4059: "No need to change position side.",
    -4060: "Invalid position side.",
    -4061: "Order's position side does not match user's setting.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4116: "clientOrderId is duplicated",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4140: "Invalid symbol status for opening position",
    -4141: "Symbol is closed",
    -4164: "Order's notional must be no smaller than %s (unless you choose reduce only)",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected.",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected.",
}
BANNED: Final = "Way too many requests; IP banned until %s. Please use the websocket for live updates to avoid bans."
AHEAD: Final = "Timestamp for this request was 1000ms ahead of the server's time."
EITHER: Final = "Param '%s' or '%s' must be sent, but both were empty/null!"
CLIENT_ID_TOO_LONG: Final = "Client order id length should not be more than 36 chars"
MAYBE_EXECUTED: Final = "Unknown error, please check your request or try again later."  # 503 A, general info page


class ApiError(Exception):
    """A definite refusal. `status` is HTTP, `headers` are added to the reply (`Retry-After`)."""

    def __init__(self, code: int, text: str, *, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status
        self.headers = headers or {}


def refusal(code: int, *values: object, status: int = 400, headers: dict[str, str] | None = None) -> ApiError:
    """The documented refusal `code`, its `%s` filled with `values` in order."""
    return ApiError(code, TEXTS[code] % values if values else TEXTS[code], status=status, headers=headers)
