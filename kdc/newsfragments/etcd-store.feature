Several KDCs can share one realm, with the principals in etcd: `kdc --store etcd://HOST,HOST/ --state DIR`.
