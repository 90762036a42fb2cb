"""Watching a service: figures, health, a status page.  Reads, and never decides."""
