"""What S3 says when it refuses, as one line for a person with the way out. Permanent where trying again cannot help."""

from __future__ import annotations

import re

from engagement.errors import EngagementError, PermanentError
from engagement.lake.interface import LakeUnavailable

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting (?:&#34;|')([\w-]+)")
_DENIED = (
    "access denied: these AWS credentials need s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload on this bucket and prefix"
)
_EXPIRED = "the AWS credentials have expired: renew them (a role or a profile renews them by itself)"
_STRANGER = "the store{where} does not know this access key: check AWS_ACCESS_KEY_ID or the profile"
_FOR_GOOD = {
    "NoSuchBucket": "there is no bucket {bucket}{where}: create it, or correct ENGAGEMENT_LAKE_URL",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _STRANGER,
    "InvalidClientTokenId": _STRANGER,
    "XAdminUserNotFound": _STRANGER,
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check AWS_SECRET_ACCESS_KEY or the profile",
    "RequestTimeTooSkewed": "this machine's clock is off by more than 15 minutes from the store's: set it (NTP)",
    "AccessDenied": _DENIED,
    "InvalidObjectState": "the object lies in an archive class (Glacier): restore it first",
}
"""S3's name of an error -> why trying again cannot help, and what can."""
_NOTHING_DONE = ("kind: Connect", "169.254.", "redirect without LOCATION")
"""Signs that no request of ours came to the bucket."""
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}


def code_of(error: BaseException) -> str | None:
    """S3's own name of the error; None where the answer had no body (HEAD) or never came."""
    told = getattr(error, "response", {}).get("Error", {}).get("Code")  # boto3's way to say it
    if told and not told.isdigit():
        return str(told)
    found = _CODE.search(str(error))
    return found and found[1]


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the answer; None where no answer came."""
    told = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    if told:
        return int(told)
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def is_refusal(error: BaseException) -> bool:
    """Whether the request certainly had no effect: the store refused it, or it was never sent."""
    status = status_of(error)
    return (status is not None and 300 <= status < 500) or code_of(error) in _THROTTLED or _never_sent(error)


def is_for_good(error: BaseException) -> bool:
    """Whether the store said why in a way that no condition of ours explains, whatever type the client made of it."""
    return (code_of(error) or "") in _FOR_GOOD


def _never_sent(error: BaseException) -> bool:
    text = str(error)
    return any(sign in text for sign in _NOTHING_DONE) or type(error).__name__ in ("NoCredentialsError", "EndpointConnectionError")


def explained(error: BaseException, name: str, bucket: str, endpoint: str | None) -> EngagementError:
    """The error to raise for one about the object or folder `name`."""
    where = f" at {endpoint}" if endpoint else ""
    code, status = code_of(error), status_of(error)
    if why := _FOR_GOOD.get(code or "") or (_DENIED if status in (401, 403) and code not in _THROTTLED else None):
        return PermanentError(f"{name}: {why.format(bucket=bucket, where=where)}")
    if code in _ELSEWHERE or "configured region" in str(error):
        return PermanentError(f"{name}: the bucket lies in another region: set AWS_REGION{_right_region(error)}")
    if code in _THROTTLED or status in (429, 503):
        return LakeUnavailable(f"{name}: the store is throttling ({code or status}), also at the last retry: try again later")
    if _has_no_credentials(error):
        return LakeUnavailable(f"{name}: no AWS credentials: neither AWS_ACCESS_KEY_ID nor a profile is set, and no role answered")
    return LakeUnavailable(f"{name}: {_first_line(error, where)}")


def _right_region(error: BaseException) -> str:
    told = getattr(error, "response", {}).get("Error", {}).get("Region")
    found = _REGION.search(str(error))
    region = told or (found and (found[1] or found[2]))
    return f"={region}" if region else " to its own"


def _has_no_credentials(error: BaseException) -> bool:
    return "169.254." in str(error) or type(error).__name__ == "NoCredentialsError"


def _first_line(error: BaseException, where: str) -> str:
    """The heart of the client's text, without its debug dump."""
    text = " ".join(str(error).split("Debug source", maxsplit=1)[0].split())
    if "timed out" in str(error).lower() or "TimedOut" in str(error):
        return f"the store{where} did not answer in time"
    if _never_sent(error):
        return f"nobody answers{where}: is the store up, and ENGAGEMENT_AWS_ENDPOINT_URL right?"
    return f"{code_of(error) or ''} {text}".strip()[:300]
