"""The test suite: ``python -m twisted.trial tests`` from the top directory."""
