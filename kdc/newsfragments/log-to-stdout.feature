`kdc -o -` writes the activity log to standard output, to systemd's journal without time stamps.
