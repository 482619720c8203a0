"""Large objects in pieces: multipart uploads whose completion has the condition, so that they keep R2 and R4 like small ones.

obstore's multipart has no condition; boto3's completion has. An upload that fails is aborted; what a killed process left
behind is found by `left` and belongs to maintenance (`abort`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LARGE_BYTES = 16 << 20
PART_BYTES = 8 << 20
"""S3 takes 5 MiB to 5 GiB and 10,000 parts: objects up to 78 GiB."""
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Left:
    """An upload that was begun and neither completed nor aborted; it costs storage and no listing shows it."""

    key: str
    upload: str
    begun: datetime


class Uploads:
    """Multipart uploads under one prefix of a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def put(self, key: str, data: memoryview, e_tag: str | None, before_completion: Callable[[], None]) -> str:
        """Upload all of it and complete if the name is free, or holds the object of this e-tag; returns the new e-tag.

        Raises what boto3 raises; nothing of the upload stays unless the last request's answer was lost.
        """
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        upload = self._client.create_multipart_upload(**place)["UploadId"]

        def send(number: int) -> dict[str, Any]:
            piece = bytes(data[number * PART_BYTES : (number + 1) * PART_BYTES])
            sent = self._client.upload_part(**place, UploadId=upload, PartNumber=number + 1, Body=piece)
            return {"PartNumber": number + 1, "ETag": sent["ETag"]}

        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                parts = list(pool.map(send, range(-(-len(data) // PART_BYTES))))
            before_completion()
            condition = {"IfMatch": e_tag} if e_tag else {"IfNoneMatch": "*"}
            done = self._client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error tells; maintenance finds what stays
                self._client.abort_multipart_upload(**place, UploadId=upload)
            raise
        return str(done["ETag"])

    def left(self) -> Iterator[Left]:
        """Uploads under way or left behind, by key."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for found in page.get("Uploads") or ():
                yield Left(found["Key"].removeprefix(self._prefix), found["UploadId"], found["Initiated"])

    def abort(self, left: Left) -> None:
        """Give up an upload and free what it holds; one that is gone is no error."""
        with contextlib.suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._prefix + left.key, UploadId=left.upload)
