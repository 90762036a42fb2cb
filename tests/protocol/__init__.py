"""Plain calls: no process, no port, no clock."""
