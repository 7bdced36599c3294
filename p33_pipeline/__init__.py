"""p33 in hindsight: what the sidecar saw and did, archived, audited three ways, reported, and judged.

Imports the rules of `p33_sidecar.core`, the names of keys and settings, and the exchange's client; never the service.
"""
