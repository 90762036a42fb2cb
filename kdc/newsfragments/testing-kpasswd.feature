The realm of `kdc.testing` changes passwords by kpasswd, with policies for them.
