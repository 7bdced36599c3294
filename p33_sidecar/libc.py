"""Settings that only the C library or the kernel offers. Where they are not there, everything works without them."""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger("p33.libc")


def tell(function: str, *args: int) -> None:
    """Call a function of glibc that is there for its effect, where the C library is that."""
    try:
        getattr(ctypes.CDLL(None), function)(*(ctypes.c_long(arg) for arg in args))
    except (AttributeError, OSError):
        log.debug("libc.without", extra={"fields": {"function": function}})
