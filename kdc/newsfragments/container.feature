`etc/Containerfile` makes an image of the KDC: not as root, its root read-only, one volume. A pwd.txt that is mounted by itself is refused, before what belongs beside it is made in the wrong place.
