"""What runs: the one figure that everything of ours has."""

from __future__ import annotations

import platform

import twisted
from kdc import __version__
from kdc.watch.figures import Sampled

__all__ = ["build_info"]


def build_info() -> Sampled:
    about = (__version__, platform.python_version(), twisted.__version__)
    return Sampled(
        "kdc_build_info",
        "What runs; always 1.",
        lambda: {about: 1},
        ("version", "python", "twisted"),
    )
