"""The rules, as pure functions over frozen values.

No clock, no I/O, no randomness in this package: time and ids are parameters. It imports the standard
library and msgspec, nothing else; a test holds it to that.
"""
