`kdc admin load` and `kdc admin import` work beside the running KDC too, take files of any length, and tell by exit status 8 that a line was left out.
