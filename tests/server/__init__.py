"""The running KDC."""
