"""A group is one file's cases against one process of the proxy, over several lanes at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.conformance import expectations, request_verdicts, resources, response_verdicts, ways
from tests.conformance.cases import Case, RequestCase
from tests.conformance.lane import Lane, Seen
from tests.conformance.outcome import Mark, Outcome
from tests.conformance.ways import Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.exceptions import Override
    from tests.conformance.proxies import Proxy

LANES = 8
BATCH = 48  # so many cases, then the process must be back where it was
WARM_UP_S = 15.0


class GoneError(Exception):
    """The proxy died or stopped answering during a case, whoever's fault it is."""


@dataclass(slots=True)
class Group:
    """Runs cases; restarts the proxy when it dies. Written by `run` and the lanes' tasks.

    `splits`: each case in every way, else whole only; `exact`: by statuses and letters too.
    A case during which the proxy went is a suspect; suspects run again alone, so that a death
    is laid at the right door.
    """

    make: Callable[[], Proxy]
    overrides: dict[str, Override]
    splits: bool
    exact: bool = True
    problems: list[str] = field(default_factory=list)
    _proxy: Proxy | None = None
    _lanes: list[Lane] = field(default_factory=list)
    _restart: asyncio.Lock = field(default_factory=asyncio.Lock)
    _deaths: list[str] = field(default_factory=list)

    async def run(self, listed: list[Case]) -> list[Outcome]:
        """Run all cases; give their outcomes in the order of the list."""
        self._lanes = [Lane() for _ in range(min(LANES, len(listed)))]
        for lane in self._lanes:
            await lane.recorder.start()
        outcomes: dict[int, Outcome] = {}
        try:
            await self._start()
            assert self._proxy is not None
            baseline = await resources.measure(self._proxy)
            places = list(enumerate(listed))
            for first in range(0, len(places), BATCH):
                batch = places[first : first + BATCH]
                await self._run_all(batch, outcomes)
                left = await resources.back_to(baseline, self._proxy)
                self.problems += [f"{batch[0][1].name} to {batch[-1][1].name}: {what}" for what in left]
        finally:
            if self._proxy and (problem := await self._proxy.stop()):
                self.problems.append(problem)
            for lane in self._lanes:
                await lane.recorder.stop()
        return [outcomes[place] for place in sorted(outcomes)]

    async def _run_all(self, listed: list[tuple[int, Case]], outcomes: dict[int, Outcome]) -> None:
        todo, suspects = iter(listed), list[tuple[int, Case]]()

        async def work(lane: Lane) -> None:
            for place, case in todo:
                try:
                    outcomes[place] = await self._outcome(lane, case)
                except GoneError:
                    suspects.append((place, case))
                    await self._revive()

        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(work(lane))
        guilty = False
        for place, case in suspects:
            try:
                outcomes[place] = await self._outcome(self._lanes[0], case)
            except GoneError as gone:
                guilty = True
                outcomes[place] = Outcome(case, Mark.FAIL, {"alone": [str(gone)]}, "a dead end")
                await self._revive()
        if self._deaths and not guilty:
            self.problems.append(f"died, and no case alone explains it: {self._deaths}")

    async def _start(self) -> None:
        self._proxy = self.make()
        await self._proxy.start([lane.recorder.port for lane in self._lanes])
        for lane, front in zip(self._lanes, self._proxy.fronts, strict=True):
            lane.front = front
            async with asyncio.timeout(WARM_UP_S):
                while not await lane.prime_once():
                    await asyncio.sleep(0.1)  # it may still probe the application
            lane.recorder.close_all()

    async def _outcome(self, lane: Lane, case: Case) -> Outcome:
        override = self.overrides.get(case.name)
        problems: dict[str, list[str]] = {}
        lifted: dict[str, list[str]] = {}
        shown = ""
        for way in Way if self.splits else (Way.WHOLE,):
            sent = ways.variant(case, way)
            if sent is None:
                continue
            seen = await self._seen(lane, sent, bytewise=way is Way.BYTEWISE)
            judged, served = case if isinstance(case, RequestCase) else sent, True
            if way is Way.TRAILING and isinstance(case, RequestCase):
                seen, served = ways.without_behind(seen)
            found = judge(judged, case.klass, seen, may_reuse=False)
            found += expectations.check(case.expects, seen, exact=self.exact)
            if not served and ways.must_serve_behind(case):
                found.append("the request behind it was not answered")
            if found:
                problems[way], shown = found, shown or show(seen)
            if override and (found := _lifted(judged, override, seen)):
                lifted[way] = found
        if not problems:
            return Outcome(case, Mark.PASS)
        if override and not lifted:
            return Outcome(case, Mark.EXCEPTION, note=f"{override.rfc}: {override.why}")
        return Outcome(case, Mark.FAIL, lifted if override else problems, shown)

    async def _seen(self, lane: Lane, case: Case, *, bytewise: bool) -> Seen:
        proxy = self._proxy
        try:
            if isinstance(case, RequestCase):
                seen = await lane.request_case(case, bytewise=bytewise)
            else:
                seen = await lane.response_case(case, bytewise=bytewise)
        except OSError as error:
            died = proxy.died() if proxy else ""
            raise GoneError(f"the proxy died: {died}" if died else str(error)) from error
        if proxy is None or proxy is not self._proxy or proxy.died():
            raise GoneError(f"the proxy died: {proxy.died() if proxy else 'never was'}")
        return seen

    async def _revive(self) -> None:
        """Put a new proxy in the place of a dead one; a living one stays."""
        async with self._restart:
            if self._proxy and (died := self._proxy.died()):
                self._deaths.append(died)
                await self._proxy.stop()
                await self._start()


def judge(case: Case, klass: str, seen: Seen, *, may_reuse: bool) -> list[str]:
    """Give the verdict on either kind of case."""
    if isinstance(case, RequestCase):
        return request_verdicts.judge(case, klass, seen)
    reuse = may_reuse or case.may_reuse
    return response_verdicts.judge(case, klass, seen, may_reuse=reuse)


def _lifted(case: Case, override: Override, seen: Seen) -> list[str]:
    klass = override.klass or case.klass
    return judge(case, klass, seen, may_reuse=override.may_reuse)


def show(seen: Seen) -> str:
    """Say what the client and the application held, in one line."""
    replies = [f"{r.status}{'' if r.complete else ' cut'}" for r in seen.answers.replies]
    held = [
        f"#{one.number} {len(one.raw)} bytes, {sum(m.whole for m in one.messages)} whole"
        f"{', partial' if one.partial else ''}{'' if one.open else ', closed'}: {one.raw[:120]!r}"
        for one in seen.held
    ]
    client = f"client {'+'.join(replies) or 'nothing'} then {seen.ended.value}"
    return f"{client}; application {'; '.join(held) or 'nothing'}"
