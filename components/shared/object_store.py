"""An object store that speaks S3: how it is reached, its lists page after page, an object's content from a byte on."""

import os
from collections.abc import Generator, Iterator
from typing import Any

from components.shared.problems import problem, quote
from components.shared.source_errors import broken

PIECE_BYTES = 1 << 22
MAX_PAGES = 200  # of a list, of up to 1,000 names each
CONNECT_SECONDS, READ_SECONDS = 10, 60  # until an attempt counts as failed: to connect, and without a byte


def open_store() -> Any:
    """The filesystem of fsspec that the environment names."""
    import fsspec

    endpoint = os.environ.get("AWS_S3_ENDPOINT", "")
    region = os.environ.get("AWS_DEFAULT_REGION", "")
    filesystem = fsspec.filesystem(
        "s3",
        endpoint_url=f"https://{endpoint}" if endpoint and "://" not in endpoint else endpoint or None,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1},  # sources.py tries again
            # Stores beside AWS rarely have a host name for every bucket.
            "s3": {"addressing_style": "path" if endpoint else "auto"},
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.retries = 1
    return filesystem


def in_a_bucket(path: str, shown: str) -> str:
    """bucket/key; raises Problems when neither the address nor the environment names a bucket."""
    bucket, slash, key = path.partition("/")
    bucket = bucket or os.environ.get("AWS_S3_BUCKET", "")
    if not bucket:
        raise problem(
            "the address names no bucket",
            where=shown,
            rule="s3://bucket/key, or s3:///key for the bucket AWS_S3_BUCKET of the data connection",
            remedy="add the bucket",
        )
    return bucket + slash + key


def objects(filesystem: Any, beginning: str, one_level: bool = False) -> Iterator[tuple[str, int]]:
    """Names, bucket/key, and sizes of the objects whose name begins so, page after page; `one_level`: with no slash
    in the rest."""
    bucket, _, prefix = beginning.partition("/")
    asked = {"Bucket": bucket, "Prefix": prefix, **({"Delimiter": "/"} if one_level else {})}
    for _ in range(MAX_PAGES):
        answer = filesystem.call_s3("list_objects_v2", **asked)
        for found in answer.get("Contents", ()):
            yield f"{bucket}/{found['Key']}", found["Size"]
        following = answer.get("NextContinuationToken", "") if answer.get("IsTruncated") else ""
        if not following:
            return
        asked["ContinuationToken"] = following
    raise problem(
        f"the object store's list has no end after {MAX_PAGES} pages",
        where=f"s3://{beginning}",
        rule="a folder, or what begins as a glob does, holds some thousand files",
        remedy="name a folder further down",
    )


def content(filesystem: Any, path: str, start: int, size: int | None, where: str) -> Generator[bytes, None, None]:
    """An object from a byte on, of one answer; it must begin there, as not all stores know ranges."""
    from fsspec.asyn import sync

    if start and start == size:
        return
    bucket, key, _ = filesystem.split_path(path)
    asked = {"Range": f"bytes={start}-"} if start else {}
    answer = filesystem.call_s3("get_object", Bucket=bucket, Key=key, **asked)
    try:
        found = str(answer.get("ContentRange", ""))
        if found.partition("-")[0] != (f"bytes {start}" if start else ""):
            raise broken(where, f"it sends {quote(found or 'everything')} where bytes from {start} on count")
        while piece := sync(filesystem.loop, answer["Body"].read, PIECE_BYTES):
            yield piece
    finally:
        filesystem.loop.call_soon_threadsafe(answer["Body"].close)
