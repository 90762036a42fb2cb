"""The small Twisted pieces."""
