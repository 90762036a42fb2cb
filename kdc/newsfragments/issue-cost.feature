Issuing a key costs the KDC about a quarter less processor time where one request comes at a time.
