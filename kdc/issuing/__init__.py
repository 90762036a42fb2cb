"""What the KDC decides: who is who, who gets a key, who may register or change.  No I/O."""
