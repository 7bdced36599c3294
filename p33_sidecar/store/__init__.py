"""Everything that knows Redis: key names, scripts, and the turning of texts into values at this edge.

One server, no cluster: scripts reach keys by name as well as by KEYS. Nothing here decides anything.
"""
