Where an address is taken, HOST, HOST:PORT and [IPV6]:PORT are understood, and everything else is refused when it is read.
