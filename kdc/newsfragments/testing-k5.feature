`from kdc.testing.k5 import K5Realm` takes the place of k5test: the same interface without a KDC on the machine, with free ports, and nothing left behind.
