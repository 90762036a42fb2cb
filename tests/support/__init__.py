"""What tests have in common: a realm without I/O, in-memory transports, real processes, faults."""
