"""Router: the Service of a column. It picks a pod for each new connection and leaves it alone after.

This is how kube-proxy works: the kernel rewrites the destination of a connection's first packet, and
neither a later change of endpoints nor the proxy itself ever touches an established connection. The
clients therefore connect to the picked pod themselves, and see its refusals and resets unaltered.
"""

import random

from drainproxy.proof.client import Address


class Router:
    """Written by the column that owns it."""

    def __init__(self, *pods: Address) -> None:
        self.pods = list(pods)
        # kube-proxy's choice is random too; the seed makes two runs alike.
        self._random = random.Random(1)  # noqa: S311 - nobody must be kept from guessing it

    def choose(self) -> Address:
        return self._random.choice(self.pods)
