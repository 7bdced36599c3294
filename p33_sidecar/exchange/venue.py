"""The name an exchange goes by in permits and in the database that belongs to it."""

from __future__ import annotations

from urllib.parse import urlsplit


def venue_of(base_url: str) -> str:
    """`host`, with `:port` where the URL has one (contract, chapter 2); lower case, without credentials."""
    return urlsplit(base_url).netloc.rpartition("@")[2].lower()
