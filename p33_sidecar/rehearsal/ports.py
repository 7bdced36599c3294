"""What a command line may say of a port. No socket here."""

from __future__ import annotations

import argparse


def port_number(text: str) -> int:
    """0 (any free port) to 65535; for argparse, which tells the user what is wrong."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)
