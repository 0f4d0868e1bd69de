"""Outbox: a turn's writes go out together, in order, and one that fails fails alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drainproxy.proxy.wire.write_batch import LARGE_BYTES, WriteBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Sheet(asyncio.Transport):
    """A transport that remembers what was written to it, on a sheet it may share."""

    def __init__(self, sheet: list[tuple[str, bytes]], name: str = "a") -> None:
        super().__init__()
        self.sheet = sheet
        self.name = name
        self.closing = False
        self.broken = False

    def write(self, data: bytes) -> None:
        """Remember."""
        if self.broken:
            raise RuntimeError("broken")
        self.sheet.append((self.name, bytes(data)))

    def is_closing(self) -> bool:
        """As told."""
        return self.closing


class Act:
    """What is done behind the writes, and who is told of what it raises."""

    def __init__(self, act: Callable[[], object], told: Callable[[Exception], object]) -> None:
        self.flushed, self.defective = act, told


class Bench:
    """An outbox, two transports, and what went wrong."""

    def __init__(self) -> None:
        self.sheet: list[tuple[str, bytes]] = []
        self.defects: list[str] = []
        self.told: list[Exception] = []
        self.write_batch = WriteBatch(asyncio.get_running_loop(), lambda what, _: self.defects.append(what))
        self.a, self.b = Sheet(self.sheet, "a"), Sheet(self.sheet, "b")

    def then(self, act: Callable[[], object]) -> None:
        """Have `act` done behind the writes."""
        self.write_batch.then(Act(act, self.told.append))


async def test_what_a_turn_writes_goes_out_at_its_end_in_order() -> None:
    """Nothing before, everything then."""
    bench = Bench()
    bench.write_batch.write(bench.a, b"1")
    bench.write_batch.write(bench.b, b"2")
    bench.write_batch.write(bench.a, b"3")
    assert bench.sheet == []
    await asyncio.sleep(0)
    assert bench.sheet == [("a", b"1"), ("b", b"2"), ("a", b"3")]


async def test_it_goes_out_before_what_is_scheduled_after_it() -> None:
    """Whoever waits for the write's turn finds it written."""
    bench = Bench()
    bench.write_batch.write(bench.a, b"1")
    asyncio.get_running_loop().call_soon(lambda: bench.sheet.append(("later", b"")))
    await asyncio.sleep(0)
    assert bench.sheet == [("a", b"1"), ("later", b"")]


async def test_flush_writes_now_and_once() -> None:
    """The scheduled flush finds nothing left."""
    bench = Bench()
    bench.write_batch.write(bench.a, b"1")
    bench.write_batch.flush()
    assert bench.sheet == [("a", b"1")]
    await asyncio.sleep(0)
    assert bench.sheet == [("a", b"1")]


async def test_what_is_written_after_a_flush_still_goes_out() -> None:
    """In the same turn."""
    bench = Bench()
    bench.write_batch.write(bench.a, b"1")
    bench.write_batch.flush()
    bench.write_batch.write(bench.a, b"2")
    await asyncio.sleep(0)
    assert bench.sheet == [("a", b"1"), ("a", b"2")]


async def test_a_transport_that_closes_is_left_alone() -> None:
    """The others get theirs."""
    bench = Bench()
    bench.write_batch.write(bench.a, b"1")
    bench.write_batch.write(bench.b, b"2")
    bench.a.closing = True
    await asyncio.sleep(0)
    assert bench.sheet == [("b", b"2")]


async def test_what_comes_then_comes_after_the_writes() -> None:
    """Also where nothing was written."""
    bench = Bench()
    bench.then(lambda: bench.sheet.append(("then", b"")))
    bench.write_batch.write(bench.a, b"1")
    await asyncio.sleep(0)
    assert bench.sheet == [("a", b"1"), ("then", b"")]
    bench.then(lambda: bench.sheet.append(("then", b"2")))
    await asyncio.sleep(0)
    assert bench.sheet[-1] == ("then", b"2")


async def test_what_comes_then_may_write_and_wait_again() -> None:
    """In the next turn."""
    bench = Bench()

    def again() -> None:
        bench.write_batch.write(bench.a, b"2")
        bench.then(lambda: bench.sheet.append(("then", b"")))

    bench.then(again)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.sheet == [("a", b"2"), ("then", b"")]


async def test_a_write_that_fails_fails_alone() -> None:
    """Other connections' writes of the turn, and what comes then, are not lost; the defect is told."""
    bench = Bench()
    bench.a.broken = True
    bench.write_batch.write(bench.a, b"1")
    bench.write_batch.write(bench.b, b"2")
    bench.then(lambda: bench.sheet.append(("then", b"")))
    await asyncio.sleep(0)
    assert bench.sheet == [("b", b"2"), ("then", b"")]
    assert len(bench.defects) == 1


async def test_an_act_that_fails_fails_alone() -> None:
    """The next act belongs to another connection."""
    bench = Bench()
    bench.then(lambda: 1 // 0)
    bench.then(lambda: bench.sheet.append(("then", b"")))
    await asyncio.sleep(0)
    assert bench.sheet == [("then", b"")]
    assert len(bench.told) == 1
    assert not bench.defects


async def test_who_fails_to_hear_of_its_act_fails_alone() -> None:
    """The defect of the defect is told, too."""
    bench = Bench()
    bench.write_batch.then(Act(lambda: 1 // 0, lambda _: bench.told[0]))
    bench.then(lambda: bench.sheet.append(("then", b"")))
    await asyncio.sleep(0)
    assert bench.sheet == [("then", b"")]
    assert len(bench.defects) == 1


async def test_each_flush_is_a_turn() -> None:
    """What was written in an earlier turn has been handed over."""
    bench = Bench()
    before = bench.write_batch.turn
    bench.write_batch.write(bench.a, b"1")
    assert bench.write_batch.turn == before
    await asyncio.sleep(0)
    assert bench.write_batch.turn > before


class Gathering(Sheet):
    """One that takes pieces as they are."""

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Remember each."""
        for piece in list_of_data:
            self.write(bytes(piece))


async def test_large_pieces_are_not_put_together_where_the_loop_can_gather_them() -> None:
    """They go at once, behind what was put off, and their size is told."""
    bench, written = Bench(), []
    bench.write_batch.written = lambda _, size: written.append(size)
    large, gathers = b"x" * LARGE_BYTES, not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    transport = Gathering(bench.sheet)
    bench.write_batch.write(transport, b"head")
    bench.write_batch.write_pieces(transport, [b"10000\r\n", memoryview(large), b"\r\n"])
    pieces = [b"10000\r\n", large, b"\r\n"]
    assert bench.sheet == [("a", piece) for piece in (b"head", *(pieces if gathers else [b"".join(pieces)]))]
    assert written == [len(large) + 9]


async def test_small_pieces_are_one_and_wait_for_the_turns_end() -> None:
    """Of many small ones each would cost more than its copy; of none nothing is written."""
    bench, transport = Bench(), Gathering([])
    bench.write_batch.write_pieces(transport, [b"1\r\n", memoryview(b"a"), b"\r\n"])
    bench.write_batch.write_pieces(transport, [])
    assert transport.sheet == []
    await asyncio.sleep(0)
    assert transport.sheet == [("a", b"1\r\na\r\n")]
    bench.write_batch.write_pieces(transport, [b"x" * 64] * 2048)
    assert transport.sheet[1:] == [("a", b"x" * 64 * 2048)]


async def test_pieces_are_not_written_to_a_transport_that_closes() -> None:
    """As everything else."""
    bench = Bench()
    bench.a.closing = True
    bench.write_batch.write_pieces(bench.a, [b"x" * LARGE_BYTES])
    assert bench.sheet == []
