The KDC takes a port that systemd holds (`--port systemd:domain=INET6:name=kdc`, etc/kdc.socket), and its master key as a credential; what is wrong with an endpoint is told without a traceback.
