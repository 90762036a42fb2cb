"""How the distribution is put together.

Packages are named one by one: `find_packages` would install ``tests`` and
leave the plugin out, since ``twisted/plugins`` must have no ``__init__.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def version() -> str:
    """Return the version without importing kdc, whose requirements may not be there yet."""
    source = (HERE / "kdc" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise SystemExit('kdc/__init__.py has no line __version__ = "..."')
    return found.group(1)


setup(
    name="kdc-twisted",
    version=version(),
    description="A key distribution centre, and secure channels between the parties that use it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Security :: Cryptography",
        "Topic :: System :: Systems Administration :: Authentication/Directory",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    install_requires=[
        # Before 26.10 twistd ends with status 0 after a usage error.
        "twisted[tls] >= 26.10.0",
        # Argon2id came with 44 and X25519MLKEM768 with the OpenSSL of 45; from 47 on no
        # pyOpenSSL older than 26 fits, which is the first that names the group agreed on.
        "cryptography >= 47.0.0",
        "attrs >= 23.1.0",
        # Older ones call what pyOpenSSL 26 no longer has, when they see a certificate.
        "service-identity >= 26.1.0",
    ],
    extras_require={
        # For `make bench`, beside the other programs that it measures.
        "bench": ["k5test", "matplotlib", "py-spy"],
        # For `kdcclient send --exclude`.
        "exclude": ["pathspec >= 0.12"],
        # For `kdc --kerberos` and kdc.testing: nothing more, but whoever needs them can say so.
        "kerberos": [],
        # What the figures at the status port are written down by.
        "metrics": ["prometheus-client >= 0.19"],
        "dev": [
            "build",
            "coverage",
            "hypothesis",
            "mypy",
            "mypy-zope",
            "packaging",
            "pathspec >= 0.12",
            "prometheus-client",
            "pydoctor",
            "pytest",
            "ruff",
            "segno",
            "setuptools >= 77",
            "towncrier",
            "types-zxcvbn",
            "zxcvbn >= 4.4",
        ],
        # For what is said about a new passphrase.
        "passphrase": ["zxcvbn >= 4.4"],
        # For `kdc admin invite --qr`.
        "qr": ["segno >= 1.5"],
    },
    # The root is named so that an editable install puts it on the path whole: that is what
    # lets twistd find twisted/plugins in a checkout.
    package_dir={"": "."},
    packages=[
        "kdc",
        "kdc.admin",
        "kdc.channel",
        "kdc.client",
        "kdc.commands",
        "kdc.commands.admin",
        "kdc.commands.client",
        "kdc.files",
        "kdc.issuing",
        "kdc.kerberos",
        "kdc.net",
        "kdc.protocol",
        "kdc.relay",
        "kdc.server",
        "kdc.store",
        "kdc.store.etcd",
        "kdc.store.flatfile",
        "kdc.store.moving",
        "kdc.store.sealed",
        "kdc.testing",
        "kdc.transfer",
        "kdc.tunnel",
        "kdc.watch",
        "twisted.plugins",
    ],
    package_data={"kdc": ["py.typed"], "kdc.watch": ["static/*"]},
    # Where man(1) looks for what belongs to a command that it finds in a bin beside it.
    data_files=[
        (
            "share/man/man1",
            [
                "docs/man/kdc.1",
                "docs/man/kdc-admin.1",
                "docs/man/kdc-quick.1",
                "docs/man/kdc-realm.1",
                "docs/man/kdc-relay.1",
                "docs/man/kdcclient.1",
            ],
        ),
    ],
    entry_points={
        "console_scripts": [
            "kdc = kdc.commands.main:kdc_main",
            "kdcclient = kdc.commands.main:kdcclient_main",
        ],
        "pytest11": ["kdc = kdc.testing.pytest_plugin"],
    },
)
