"""Gaps: entries that a stream once had and that neither it nor the archive holds. Counted, written down once.

What has been archived is counted in the files themselves, what was missing in the table `gaps`; the two together are
what the server must have counted. So a gap found again after a kill is found with the same number, and noted once.
"""

from __future__ import annotations

import pyarrow as pa

from p33_pipeline.history import TABLES, History, Mark, Table
from p33_pipeline.history.layout import Part, day_of, id_text


class GapBook:
    """The table `gaps` of one history."""

    def __init__(self, history: History) -> None:
        self.history, self.table = history, TABLES["gaps"]

    def note(self, table: Table, *, before: Mark, after: Mark, added: int, first_id: str, now_ms: int) -> int | None:
        """Compare the server's count with ours; write down a difference. Returns what is missing, None: uncountable.

        `added` is the server's count when the pass from `before` to `after` began. Less than ours means that the
        stream is another one now, or that the server lost its end: what may be missing then cannot be counted.
        """
        with self.history.place.alone(self.table.name):
            noted = self.history.scan(self.table, columns=["table", "adjust"]).to_pylist()
            known = sum(row["adjust"] for row in noted if row["table"] == table.name)
            adjust = added - known - after.count
            if adjust == 0:
                return 0
            missing = adjust if adjust > 0 else None
            self._write(now_ms, [table.name, id_text(before.last), first_id, missing, adjust, now_ms])
        return missing

    def _write(self, now_ms: int, values: list) -> None:
        mark = self.history.mark(self.table)
        at = (max(now_ms, mark.last[0] + 1), 0)
        row = [id_text(at), at[0], at[1], *values, None, ""]
        rows = pa.Table.from_arrays([pa.array([value], field.type)
                                     for value, field in zip(row, self.table.schema, strict=True)],
                                    schema=self.table.schema)
        self.history.append(self.table, rows, part=Part(day_of(at[0]), at, at), count=mark.count + 1)
