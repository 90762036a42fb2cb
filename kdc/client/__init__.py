"""One principal's dealings with its KDC: settings, secret, identity, connection, membership."""
