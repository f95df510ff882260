"""An S3 server of a test's own."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

REGION = "eu-west-3"


@dataclass(frozen=True)
class Bucket:
    name: str
    url: str
    """As STORAGE_URL wants it."""
    client: Any

    def file_names(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", [])]


@contextlib.contextmanager
def empty_bucket() -> Iterator[Bucket]:
    """A bucket with a name of its own: all the servers that moto starts in one process share what they hold."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    name = f"podura-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name=REGION,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    try:
        yield Bucket(name, f"s3://key:secret@{host}:{port}/{name}?region={REGION}&tls=0", client)
    finally:
        server.stop()
