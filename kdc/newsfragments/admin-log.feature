`kdc admin log` prints the activity log with what was rotated and compressed, by time, client and event; `--follow` goes on across rotation.
