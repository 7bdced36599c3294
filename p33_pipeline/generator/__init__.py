"""Histories of any size whose truth is known: what an audit must find in them, and that there is nothing else."""
