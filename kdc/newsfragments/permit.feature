The table `permit` of the KDC's configuration file says who may ask for keys to whom, by names and patterns; SIGHUP reads it again.
