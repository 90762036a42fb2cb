"""What ``twistd`` offers: ``kdc``, ``kdcclient`` and ``kdc-relay``.

Every ``twistd`` command on the machine imports this file, so it imports
nothing of ours: a fault there must not take other people's services down.
"""

from twisted.application.service import ServiceMaker

kdc = ServiceMaker("kdc", "kdc.commands.tap", "Key distribution centre", "kdc")
kdcclient = ServiceMaker(
    "kdcclient",
    "kdc.commands.client.tap",
    "Receive or send over channels that the key distribution centre sets up",
    "kdcclient",
)
relay = ServiceMaker(
    "kdc-relay",
    "kdc.commands.relay",
    "Carry channels of those who cannot be reached",
    "kdc-relay",
)
