`kdc --status ENDPOINT` opens a port to watch the KDC at: figures for Prometheus, whether it is alive, and whether it is ready.
