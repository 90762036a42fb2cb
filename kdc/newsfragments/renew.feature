`kdcclient renew` puts a new key into a key file, and completes what was cut short; `etc/kdcclient-renew.timer` does it each week.
