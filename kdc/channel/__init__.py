"""The secure channel as a Twisted transport; its endpoints and listeners."""
