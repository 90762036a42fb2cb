A key distribution centre (`twistd kdc`, `kdc`) and a client (`twistd kdcclient`, `kdcclient`) that send messages and files over channels set up by it, protocol kdp/1.
