"""The archive: typed Parquet by stream and day, appended exactly once, read whole or not at all."""

from p33_pipeline.history.history import Files, History, Mark
from p33_pipeline.history.place import place_at
from p33_pipeline.history.tables import TABLES, Table

__all__ = ["TABLES", "Files", "History", "Mark", "Table", "place_at"]
