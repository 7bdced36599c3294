"""The three-way audit: pure functions over the archive's tables, from accounts to findings."""
