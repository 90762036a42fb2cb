"""The principal database in etcd, for several KDCs at once: one implementation of `kdc.store`."""
