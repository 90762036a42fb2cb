`kdcclient receive`, `expose` and `tunnel`, `twistd kdcclient` and `kdc relay` have `--status`, too: channels, transfers, bytes and what became of them, and whether a KDC sends anybody here.
