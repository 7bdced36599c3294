"""What assets are given: the settings of chapter 6, read from the environment of the process that runs them.

What may not happen here: a setting's value in Dagster's own storage. A resource's configuration is kept with every run,
so it holds nothing but overrides that a test or a demo makes, and never a secret.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from p33_pipeline.errors import HistoryUnavailable, SourceUnavailable
from p33_pipeline.history import History
from p33_pipeline.registry import RegistryUnavailable
from p33_pipeline.running import history_of
from p33_sidecar.errors import P33Error
from p33_sidecar.settings import Settings, load

RESOURCE = "p33"
WORTH_A_RETRY = (SourceUnavailable, HistoryUnavailable, RegistryUnavailable)


class P33(dg.ConfigurableResource):
    """Settings and the archive. `overrides` win over the environment."""

    overrides: dict[str, str] = {}

    def settings(self) -> Settings:
        return load({**os.environ, **self.overrides})

    def history(self) -> History:
        return history_of(self.settings())


@contextmanager
def sentences() -> Iterator[None]:
    """What the house raises becomes a failed step with its sentence; only what may pass by itself is tried again."""
    try:
        yield
    except (P33Error, ValueError) as error:
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, WORTH_A_RETRY)) from error
