`kdc admin` lists, adds, invites, disables, deletes and checks principals, through the running KDC or without one.
