`kdc quick alice bob` starts a KDC of one's own and makes principals that need no further option but `-n`: three commands and no question from nothing to a file received.
