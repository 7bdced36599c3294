"""How the demo is told: a table that grows on a terminal, plain lines in a pipe.

What may not happen here: a judgement. A line is right or wrong before it gets here.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from p33_sidecar.rehearsal.demo.judge import Line
from p33_sidecar.rehearsal.demo.scenes import Scene

RIGHT, WRONG = "✓", "✗"


class Teller(Protocol):
    """Hears of scenes and lines as they come."""

    def say(self, text: str) -> None: ...

    def begin(self, scene: Scene, number: int, count: int) -> None: ...

    def line(self, line: Line) -> None: ...

    def end(self, *, took_ms: int) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Plain:
    """One line at a time, for pipes and logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def begin(self, scene: Scene, number: int, count: int) -> None:
        self.say(f"[{number}/{count}] {scene.name}: {scene.injected}")
        self.say(f"        right: {scene.right} (because {scene.why})")

    def line(self, line: Line) -> None:
        self.say(f"    {'ok   ' if line.right else 'WRONG'} {line.what}{_orders(line)}")
        if line.hint:
            self.say(f"          {line.hint}")

    def end(self, *, took_ms: int) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Growing:
    """A row for each scene: those that are over stand, the running one is drawn anew."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out)
        self._scene: Scene | None = None
        self._lines: list[Line] = []
        self._label, self._begun_s = "", 0.0
        # Last: it draws while it is being made, and later from a thread of its own.
        self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._current)

    def say(self, text: str) -> None:
        self._console.print(Text(text))

    def begin(self, scene: Scene, number: int, count: int) -> None:
        if number == 1:
            self._console.print(self._table(header=True))
        self._label = f"{number}/{count}"
        self._lines, self._begun_s = [], time.monotonic()
        self._scene = scene

    def line(self, line: Line) -> None:
        self._lines.append(line)

    def end(self, *, took_ms: int) -> None:
        if (scene := self._scene) is None:
            return
        self._scene = None
        self._console.print(self._row(scene, took_ms=took_ms))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._live.stop()

    def _current(self) -> Group | Text:
        if (scene := self._scene) is None:  # taken once: the scene may end while it is drawn
            return Text("")
        took_ms = int((time.monotonic() - self._begun_s) * 1000)
        return Group(self._row(scene, took_ms=took_ms), Spinner("dots", Text(f" {self._label} {scene.name} …")))

    def _table(self, *, header: bool = False) -> Table:
        table = Table(box=SIMPLE_HEAD if header else None, show_header=header, expand=True, padding=(0, 1),
                      show_edge=False, pad_edge=True)
        table.add_column("what was injected", ratio=5)
        table.add_column("what the gate said", ratio=6)
        table.add_column("orders", width=6, justify="right")
        table.add_column("", width=2)
        return table

    def _row(self, scene: Scene, *, took_ms: int) -> Table:
        table = self._table()
        told = Text.assemble((scene.name, "bold"), (f"  {took_ms // 1000}.{took_ms // 100 % 10} s", "dim"), "\n",
                             scene.injected, "\n", (f"right: {scene.right}", "cyan"), "\n", (scene.why, "dim italic"))
        said, orders, marks = self._table_of_lines()
        table.add_row(told, said, orders, marks)
        table.add_row("", "", "", "")
        return table

    def _table_of_lines(self) -> tuple[Group, Text, Text]:
        lines = tuple(self._lines)
        said = [Text(line.what, style="" if line.right else "bold red", overflow="fold") for line in lines]
        said += [Text(line.hint, style="yellow") for line in lines if line.hint]
        sent = sum(line.orders or 0 for line in lines)
        counted = any(line.orders is not None for line in lines)
        right = all(line.right for line in lines)
        mark = Text(RIGHT if right else WRONG, style="bold green" if right else "bold red") if said else Text("")
        return Group(*said), Text(str(sent) if counted else ""), mark


def _orders(line: Line) -> str:
    return "" if line.orders is None else f"  [orders: {line.orders}]"


def teller(out: TextIO) -> Teller:
    """The table on a terminal, plain lines elsewhere."""
    return Growing(out) if out.isatty() else Plain(out)
