Several KDCs on one etcd tell each other of themselves, under a lease; `kdc --node NAME` says what each is called.
