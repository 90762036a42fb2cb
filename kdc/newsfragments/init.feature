`kdcclient init` makes an invitation into a name with a key and a configuration, in one line.
