The master key of several KDCs that share their principals can be changed while they run: `kdc admin new-master-key`, and
`rotate-master-key` once every node has that key.
