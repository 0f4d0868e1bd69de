"""Who scrapes the metrics, and whose last scrape is still to come?

Pure: loop times in, addresses out. Numbers of the last seconds of a drain are lost with the process
unless somebody fetches them. Fed by server.py, which also does the waiting.
"""

from dataclasses import dataclass

MAX_ADDRESSES = 64
"""Scrapers remembered. Beyond that the one silent for longest is forgotten."""

INTERVALS = 2
"""Silent for more than this many of its own intervals: it stopped scraping us, and is not waited for."""


@dataclass(slots=True)
class _Scraper:
    last: float
    interval_s: float | None = None
    """Distance of its last two scrapes; None after the first."""


class Scrapes:
    """The register of scrapers, least recent first. Single writer: the metrics route."""

    def __init__(self, wait_s: float) -> None:
        """`wait_s` is the setting `final_scrape_wait`."""
        self._wait_s = wait_s
        self._scrapers: dict[str, _Scraper] = {}

    def record(self, address: str, now: float) -> None:
        """Note that `address` was handed the numbers of loop time `now`."""
        before = self._scrapers.pop(address, None)
        self._scrapers[address] = _Scraper(now, None if before is None else now - before.last)
        if len(self._scrapers) > MAX_ADDRESSES:
            del self._scrapers[next(iter(self._scrapers))]

    def awaited(self, now: float, drained_at: float, until: float, *, guess: bool = True) -> dict[str, float]:
        """Return who has yet to fetch the numbers of after `drained_at`, and when to give up on each.

        `until` is the loop time by which its next scrape must be due to be worth waiting for. `guess`: who
        has come once may come again.
        """
        return {
            address: give_up
            for address, scraper in self._scrapers.items()
            if scraper.last < drained_at
            and (guess or scraper.interval_s is not None)
            and (give_up := self._give_up(scraper, until)) > now
        }

    def _give_up(self, scraper: _Scraper, until: float) -> float:
        if scraper.interval_s is None:
            # A single scrape may have been a person's: it holds the exit only while it is fresh.
            return min(scraper.last + self._wait_s, until)
        if scraper.last + scraper.interval_s > until:
            return scraper.last
        return min(scraper.last + INTERVALS * scraper.interval_s, until)
