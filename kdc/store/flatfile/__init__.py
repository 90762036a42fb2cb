"""The principal database in one flat text file: one implementation of `kdc.store`."""
