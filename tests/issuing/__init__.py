"""The decisions of the KDC, as plain calls."""
