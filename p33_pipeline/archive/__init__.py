"""From Redis and the exchange into the archive, exactly once; streams are trimmed only behind it."""
