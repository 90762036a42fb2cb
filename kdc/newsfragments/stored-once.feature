A transfer whose connection breaks after everything was sent and before the receiver has confirmed it is tried again, and is in the inbox once.
