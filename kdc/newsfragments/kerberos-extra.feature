`pip install 'kdc-twisted[kerberos]'` is what a program can depend on that wants the KDC for Kerberos or `kdc.testing`; it needs no other package.
