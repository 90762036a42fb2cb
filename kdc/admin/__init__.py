"""The operator's requests, on any store, and the lines of the local socket."""
