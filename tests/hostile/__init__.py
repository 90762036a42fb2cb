"""Attacks, each named for what it does, against the real code."""
