"""Lakes on a real S3 server of this machine."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from engagement.lake.mirror import Mirror
from engagement.lake.s3 import S3Lake


@dataclass(frozen=True)
class Opener:
    """Opens the same lake each time, in other processes too, whose environment it completes."""

    environment: dict[str, str]
    endpoint: str
    bucket: str
    prefix: str
    mirror: Path
    limit: int = 1 << 30

    def __call__(self, **changes) -> S3Lake:
        os.environ.update(self.environment)
        return S3Lake(self.bucket, self.prefix, Mirror(self.mirror, self.limit), changes.get("endpoint", self.endpoint))


def opener_of(server, folder: Path, bucket: str = "lake") -> Opener:
    """A new lake in the server's bucket."""
    server.bucket(bucket)
    credentials = {name: value for name, value in server.environment.items() if name.startswith("AWS_")}
    return Opener(credentials, server.endpoint, bucket, f"t{secrets.token_hex(4)}/lake", folder / "mirror")
