A flood of connections that prove nothing costs the KDC no more than --limit arrivals-per-second, and keeps nobody out who comes from an address where somebody has logged in.
