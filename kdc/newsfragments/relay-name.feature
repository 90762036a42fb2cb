A realm may have several relays: `--reach relay=NAME` or `auto=NAME`, also as `reach` in the configuration file, in `Client.open` and in endpoint strings, uses the one of that name.
