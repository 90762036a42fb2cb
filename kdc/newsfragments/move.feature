`kdc admin move --to etcd://HOST,HOST/ --state DIRECTORY` moves a database from its file into etcd, where several KDCs can share it,
and `--from` moves it back; cut short, the same command goes on.
