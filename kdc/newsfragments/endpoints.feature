Any Twisted program reaches a principal by the endpoint string `kdc:NAME`, or offers a service by one.
