"""Transfers over channels."""
