"""A key distribution centre, and secure channels between the parties that use it."""

__version__ = "0.2.0"
