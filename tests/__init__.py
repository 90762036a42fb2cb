"""The test suite: ``python -m twisted.trial tests`` from the top directory.

Every test has the time that a slow machine needs, and none has for ever.
"""

from __future__ import annotations

from tests.support import time_limit

time_limit.install()
