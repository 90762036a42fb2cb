"""docs/protocol.md, section by section.  Pure: bytes, now, randomness in; bytes, decisions out."""
