"""The errors of the pipeline: each says in a sentence what is wrong and what to do.

    P33Error
    └── PipelineError
        ├── HistoryUnreadable   a file of the archive cannot be used: damaged, foreign, of an unknown version
        ├── HistoryUnavailable  the place of the archive does not answer, or is held by somebody else
        ├── NothingToJudge      the archive has nothing of what was asked for
        └── SourceUnavailable   Redis or the exchange gave no answer: nothing was lost, run again

No message carries a secret: a URL is quoted without its login.
"""

from __future__ import annotations

from p33_sidecar.errors import P33Error


class PipelineError(P33Error):
    """Anything the pipeline raises on purpose."""


class HistoryUnreadable(PipelineError):
    """A file of the archive cannot be used; the message names it and says what to do."""


class HistoryUnavailable(PipelineError):
    """The archive's place cannot be reached, written, or had for oneself."""


class NothingToJudge(PipelineError):
    """The archive has nothing of the range: a clean report on it would be a lie."""


class SourceUnavailable(PipelineError):
    """What was to be archived could not be read; nothing was lost or trimmed."""
