"""Waiting for what may happen before a time comes.

Every paced load waits so for its next turn or its end, the demo's, the probe's and the tests'; none polls.
"""

import asyncio


async def happens_before(event: asyncio.Event, when: float) -> bool:
    """Wait for `event` or until `when`, a time of the running loop's clock; say whether it was the event."""
    try:
        async with asyncio.timeout_at(when):
            await event.wait()
    except TimeoutError:
        return False
    return True
