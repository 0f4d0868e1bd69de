"""Idle: what drainproxy costs while nothing happens.

One client, one kept connection to the application and one to the drainproxy in front of it, a request
on each in turn: whatever disturbs the machine disturbs both alike.
"""

import asyncio

from drainproxy.proof.client import Address, Client, Request
from drainproxy.proof.demo.pods import Pod
from drainproxy.proof.demo.results import IdleResult
from drainproxy.proof.tally import Tally

_STRETCH_S = 1.5
_MAX_PAIRS = 4_000
_WARM_UP = 50  # the first requests pay for imports and connections
_REQUEST = Request(method="GET", path="/", host="shop.example")


async def measure_idle(pod: Pod) -> IdleResult:
    loop = asyncio.get_running_loop()
    direct, proxied = _client(pod.app_address), _client(pod.address)
    for _ in range(_WARM_UP):
        await direct.send(_REQUEST)
        await proxied.send(_REQUEST)
    began_at = loop.time()
    direct_tally, proxied_tally = Tally(began_at), Tally(began_at)
    while loop.time() < began_at + _STRETCH_S and direct_tally.requests < _MAX_PAIRS:
        direct_tally.add(await direct.send(_REQUEST))
        proxied_tally.add(await proxied.send(_REQUEST))
    direct.close()
    proxied.close()
    return IdleResult(
        pairs=direct_tally.requests,
        errors=direct_tally.lost + proxied_tally.lost,
        direct_p50_s=direct_tally.quantile_s(0.5) or 0.0,
        direct_p99_s=direct_tally.quantile_s(0.99) or 0.0,
        proxied_p50_s=proxied_tally.quantile_s(0.5) or 0.0,
        proxied_p99_s=proxied_tally.quantile_s(0.99) or 0.0,
    )


def _client(address: Address) -> Client:
    return Client(choose=lambda: address, keep_alive=True, timeout_s=5.0)
