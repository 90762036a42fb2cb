`kdcclient send --wait 10m` waits no longer than that for its receiver; `--wait` alone waits as it did.
