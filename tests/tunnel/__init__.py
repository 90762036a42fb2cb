"""Tunnels over channels."""
