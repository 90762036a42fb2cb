The KDC takes datagrams of Kerberos at a socket that systemd holds (`--kerberos udp:systemd=NAME`): what comes while it is restarted waits.
