"""``kdc admin``: the operator's tool."""
