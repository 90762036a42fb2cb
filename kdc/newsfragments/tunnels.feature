`kdcclient expose`, `forward`, `pipe` and `tunnel` take any program over TCP, unix sockets or standard input and output through a channel.
