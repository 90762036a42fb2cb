"""Files on a real file system."""
