"""Tests of kdc.watch: figures, who may look, HTTP and its bounds."""
