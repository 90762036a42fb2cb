"""Other programs' TCP and unix connections through channels."""
