"""Two listeners in front of two applications: one process, one lifecycle, one drain."""

from __future__ import annotations

from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, entered, get, on_one_loop, report
from tests.support.upstream import answering

ONE = OK.replace(b"ok", b"I.")
TWO = OK.replace(b"ok", b"II")


@on_one_loop
async def test_each_listener_has_its_own_application(start):
    """They are paired in the order of the settings, and counted apart."""
    async with Application(answering(ONE)) as first, Application(answering(TWO)) as second:
        proxy = await start(first, second)
        for listener, answer in enumerate((ONE, TWO)):
            client = await proxy.client(listener)
            for _ in range(listener + 1):
                assert (await client.ask(get())).raw == answer
            client.close()
        metrics = await proxy.metrics()
        for listener, count in enumerate((1, 2)):
            port = proxy.addresses[listener][1]
            labels = f'code="200",listener="{port}",method="GET",phase="serving"'
            assert metrics[f"requests_total{{{labels}}}"] == count


async def test_a_drain_waits_for_both(start):
    """Work on one listener keeps both open, and each is told to close."""
    async with Application(answering(OK)) as first, Application() as second:
        proxy = await start(first, second)
        busy = await proxy.client(1)
        await busy.send(get())
        application = await entered(second)
        proxy.signal()
        await proxy.line("phase", phase="draining")
        late = await proxy.client(0)
        assert (await late.ask(get())).raw == OK_CLOSE
        late.close()
        await application.send(OK)
        assert (await busy.final()).raw == OK_CLOSE
        busy.close()
        assert await proxy.exit_code() == 0
        await report(proxy, finished=2, late=1)


@on_one_loop
async def test_one_of_two_applications_is_not_enough_to_be_ready(start, nobody):
    """A pod is ready when all of it is; what is up is served meanwhile."""
    async with Application(answering(OK)) as first:
        proxy = await start(first, nobody, ready=False)
        client = await proxy.client(0)
        assert (await client.ask(get())).raw == OK
        assert (await proxy.get("/readyz")).status == 503
        proxy.signal()
        client.close()
        assert await proxy.exit_code() == 0
