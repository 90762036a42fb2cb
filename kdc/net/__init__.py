"""Small Twisted pieces that know nothing of principals: sockets, TLS, threads, clocks."""
