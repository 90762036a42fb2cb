"""Kerberos 5, RFC 4120 and its kin.  Pure: bytes, now, random in; bytes, decisions out."""
