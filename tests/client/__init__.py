"""One principal and its KDC, in memory."""
