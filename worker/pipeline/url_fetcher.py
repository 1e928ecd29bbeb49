"""Images at URLs that clients name."""

from dataclasses import dataclass

from shared.errors import UrlUnreachable
from shared.outgoing.client import GuardedClient
from shared.outgoing.policy import URL_SCHEMES, OutgoingPolicy
from worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class UrlFetcher:
    client: GuardedClient
    max_bytes: int
    max_seconds: float
    max_redirects: int

    def fetch(self, url: str) -> bytes:
        """Return the file at a URL.

        Raises:
            ForbiddenUrl, UrlRefused, UrlTooLarge, UrlUnreachable: as from GuardedClient.fetch(); or it is empty.
        """
        fetched = self.client.fetch(
            url, max_bytes=self.max_bytes, max_seconds=self.max_seconds, max_redirects=self.max_redirects
        )
        if not fetched.content:
            raise UrlUnreachable("The server of the URL sends an empty file.")
        return fetched.content


def build_url_fetcher(settings: WorkerSettings) -> UrlFetcher:
    policy = OutgoingPolicy.build(URL_SCHEMES[settings.url_inputs], settings.outgoing_allowed)
    return UrlFetcher(
        GuardedClient(policy), settings.max_url_bytes, settings.url_timeout_seconds, settings.max_url_redirects
    )
