"""Calls to Glue: made one at a time, counted, tried again with growing pauses where that can help, their errors in one line.

Not here: what to call (`plan`, `glue`). boto3's own retries are off, so that one bound holds.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from engagement.errors import PermanentError, TransientError
from engagement.lake.s3_client import region_of
from engagement.settings import Settings

ATTEMPTS = 8
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
"""At most 8 tries in about 20 s: a step of a run waits no longer for a catalog."""

TRANSIENT = {
    "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "RequestThrottled", "SlowDown",
    "InternalServiceException", "InternalFailure", "InternalServerError", "OperationTimeoutException", "ConcurrentModificationException",
    "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException",
}  # fmt: skip
_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"}


class GlueUnavailable(TransientError):
    """Glue did not answer, or was throttling, for as long as we ask; trying again later may help."""


class NotFound(PermanentError):
    """The database or table is not there."""


class Exists(PermanentError):
    """Somebody made it meanwhile."""


def client(settings: Settings) -> Any:
    """A Glue client by the usual AWS variables; raises PermanentError where they name no region."""
    import os

    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = os.environ.get("AWS_ENDPOINT_URL_GLUE") or settings.aws_endpoint_url or None
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
    try:
        return boto3.session.Session().client("glue", region_name=region_of(), endpoint_url=endpoint, config=config)
    except BotoCoreError as error:
        raise PermanentError(f"no client for Glue: {_line(error)}; AWS_REGION, or the profile, names the region") from error


class Calls:
    """Makes calls of one client and counts them, tries that failed too."""

    def __init__(
        self, made: Callable[[], Any], counted: Counter[str], pause: Callable[[float], None] = time.sleep, *, dry_run: bool = False
    ) -> None:
        self._make, self._client, self._dry_run = made, None, dry_run
        self._counted, self._pause = counted, pause

    def __call__(self, name: str, **arguments: Any) -> dict[str, Any]:
        """One call by its boto3 name; raises GlueUnavailable, NotFound, Exists, PermanentError. A dry run only asks."""
        if self._dry_run and not name.startswith("get_"):
            return {}
        for attempt in range(ATTEMPTS):
            self._counted[name] += 1
            try:
                answer: dict[str, Any] = getattr(self._opened(), name)(**arguments)
            except Exception as error:
                why = _transient(error)
                if why is None:
                    raise _permanent(name, error) from error
                if attempt == ATTEMPTS - 1:
                    raise GlueUnavailable(f"Glue {name}: {why}, {ATTEMPTS} times in a row") from error
                self.wait(attempt)
            else:
                return answer
        raise AssertionError

    def wait(self, attempt: int) -> None:
        """The pause after a failed try; of random length, so that processes do not come back at once."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt)
        self._pause(longest * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def pages(self, name: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """All pages of a listing; raises as a call."""
        while True:
            page = self(name, **arguments)
            yield page
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]

    def _opened(self) -> Any:
        if self._client is None:
            self._client = self._make()
        return self._client


def _transient(error: Exception) -> str | None:
    """Why trying again may help; None where it cannot."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code if code in TRANSIENT or status >= 500 else None
    return _line(error) if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError) else None


def _permanent(name: str, error: Exception) -> Exception:
    """Our error for one of the client's; others stay as they are."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _refused(name, _code(error), _line(error))
    return PermanentError(f"Glue {name}: {_line(error)}") if isinstance(error, exceptions.BotoCoreError) else error


def _refused(name: str, code: str, message: str) -> PermanentError:
    if code == "EntityNotFoundException":
        return NotFound(f"Glue {name}: {message}")
    if code == "AlreadyExistsException":
        return Exists(f"Glue {name}: {message}")
    if code in ("AccessDeniedException", "AccessDenied"):
        action = "".join(part.title() for part in name.split("_"))
        return PermanentError(f"Glue refuses {name}: {message}; the role needs glue:{action}")
    if code in _CREDENTIALS:
        return PermanentError(f"Glue does not take the credentials ({code}): renew them, or look at AWS_PROFILE and the AWS_ variables")
    return PermanentError(f"Glue {name}: {message}")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
