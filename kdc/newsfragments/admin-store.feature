`kdc admin --store etcd://HOST,HOST/ --state DIR` works on a shared store without a running KDC; `[store]` in the configuration says the same as the options, for `kdc` and for `kdc admin --config`.
