`etc/` has systemd units for the KDC and for a receiver, with secrets as systemd credentials, and a logrotate file.
