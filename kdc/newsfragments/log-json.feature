`kdc --log-format json` writes the activity log as one object of JSON a line; [docs/log.md](docs/log.md) has its fields and events.
