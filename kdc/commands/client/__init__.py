"""``kdcclient`` and ``twistd kdcclient``."""
