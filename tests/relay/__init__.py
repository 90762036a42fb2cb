"""Tests of kdc.relay."""
