A session key costs the KDC about a tenth less CPU time.
