"""The generated tables say what the code says."""

from __future__ import annotations

import pytest

from p33_sidecar.cli import docs


@pytest.mark.parametrize("name", sorted(docs.PAGES))
def test_generated_page_is_current(name: str) -> None:
    """docs/ is written from the tables in the code, and committed as written."""
    assert (docs.FOLDER / name).read_text(encoding="utf-8") == docs.PAGES[name]()
