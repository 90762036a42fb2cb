"""Measurements beside other programs: ``python -m bench``, see `bench.__main__`.

A development tool: it starts servers on loopback, in a directory of its own,
and ends them all.
"""
