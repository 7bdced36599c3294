"""The review of thresholds: every verdict held against the truth in hindsight, then every policy of a grid judged.

It recommends and never applies. Nothing here asks Redis or the exchange: it reads the archive's tables.
"""
