"""The identity of a new broker."""

from __future__ import annotations

import base64

from engagement.stack.cluster import cluster_id


def test_a_cluster_id_is_16_bytes_and_never_looks_like_an_option():
    found = [cluster_id() for _ in range(2000)]
    assert not any(identity.startswith("-") for identity in found)
    assert all(len(base64.urlsafe_b64decode(identity + "==")) == 16 for identity in found)
    assert len(set(found)) == len(found)
