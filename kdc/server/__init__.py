"""The running KDC: connections, store writer, audit log, operators' socket, directory, service."""
