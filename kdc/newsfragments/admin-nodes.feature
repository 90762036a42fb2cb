`kdc admin nodes` lists the KDCs that share a realm and what is wrong with one; `disable` and the like say when they are in force everywhere, and with `--wait` end only then.
