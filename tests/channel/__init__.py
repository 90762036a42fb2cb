"""The secure channel over in-memory transports."""
