`kdc admin top` shows in a terminal what the running KDC does, all the time: receivers, keys a second, refusals, store, limits, log.
