The status port has a page for people, kept up to date by the server: receivers, principals, charts of the last hour, refusals, the log, store, certificate, limits.
