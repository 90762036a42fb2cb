A channel notices a peer that has vanished, and keeps one that merely does not read.
