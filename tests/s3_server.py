"""An object store that speaks S3: moto's server as a process of its own, with keys that it checks."""

import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

PROGRAM = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
server._thread.join()
"""
MAY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class S3Server:
    """A running server, the keys of a user who may do everything, and a client with them."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self.endpoint = endpoint
        first = {"aws_access_key_id": "first", "aws_secret_access_key": "first", "region_name": "us-east-1"}
        iam = boto3.client("iam", endpoint_url=endpoint, **first)
        iam.create_user(UserName="reader")
        iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=json.dumps(MAY_ALL))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        self.environment = {
            "AWS_S3_ENDPOINT": endpoint,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        self.resource: Any = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        self.client: Any = self.resource.meta.client
        request = urllib.request.Request(
            f"{endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request):  # from here on every request needs keys
            pass


@contextlib.contextmanager
def running() -> Iterator[S3Server]:
    """A server on a port of its own."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(line for line in process.stdout if re.fullmatch(r"\d+\s*", line)).strip()
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
