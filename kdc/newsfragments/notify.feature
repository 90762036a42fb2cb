Under systemd (`Type=notify`, `WatchdogSec=`) the KDC tells when it is ready, reloading, stopping and alive; etc/kdc.rules.yml has alerts for Prometheus.
