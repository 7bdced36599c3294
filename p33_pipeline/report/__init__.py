"""The mismatch report: what an audit found, told so that a person knows in two minutes where to look.

Values in, files out: HTML that opens offline, CSV, JSON. Nothing is judged here, that is the audit's.
"""
