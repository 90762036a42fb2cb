`-n NAME` finds the configuration `~/.config/kdc/names/NAME.toml`, so that one account can have several names.
