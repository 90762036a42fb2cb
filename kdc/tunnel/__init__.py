"""Other programs' TCP and unix connections, and their datagrams, through channels."""
