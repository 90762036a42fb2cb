"""Messages, files and directories over a channel."""
