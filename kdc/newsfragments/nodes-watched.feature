The status page, `kdc admin top`, the figures, the dashboard and two alerts tell of the KDCs that share a realm.
