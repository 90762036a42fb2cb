Suites that start MIT's KDC by its programs run on the realm of `kdc.testing` unchanged: `kdc realm --shims DIRECTORY`.
