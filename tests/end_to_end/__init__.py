"""Real processes over real sockets, with real programs."""
