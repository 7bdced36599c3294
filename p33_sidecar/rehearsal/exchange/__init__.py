"""A simulated Binance USD-M futures exchange: the REST API, its budgets and bans, and everything that goes wrong.

Used by the demo, the tests, the benchmark, and by operators who try things out. It must never import the client it is
there to test (`p33_sidecar.exchange`), or anything else of the service: a witness has to be independent.

How it fits together: `server` (socket) → `sim`, `control`, `stage` (the person behind the scenes) → `app` (budgets,
`faults`, `signing`) → `routes` → `reads`, `trading` (endpoints, shapes in `wire`) → `venue` (rendered and delayed
view) → `engine` (what is true; `rules`, `fills`, `marks` are its arithmetic, `symbols` its table).
"""

from p33_sidecar.rehearsal.exchange.app import Seen
from p33_sidecar.rehearsal.exchange.faults import KINDS, Fault
from p33_sidecar.rehearsal.exchange.limits import Limits
from p33_sidecar.rehearsal.exchange.model import Order, Position, Reply, Request, Trade
from p33_sidecar.rehearsal.exchange.sim import SimExchange

__all__ = ["KINDS", "Fault", "Limits", "Order", "Position", "Reply", "Request", "Seen", "SimExchange", "Trade"]
