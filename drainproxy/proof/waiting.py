"""Waiting for the next turn of a load that may be told to stop meanwhile.

Every paced load waits so, the demo's, the probe's and the tests'; none of them polls.
"""

import asyncio


async def stopped_before(stop: asyncio.Event, when: float) -> bool:
    """Wait until `stop` or until `when`, a time of the running loop's clock; say whether it was `stop`."""
    try:
        async with asyncio.timeout_at(when):
            await stop.wait()
    except TimeoutError:
        return False
    return True
