"""What goes wrong when files behind an address are read, in our words: those of the libraries may hold a key."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from components.shared.problems import Problems, problem, quote

S3, HTTP = ("s3",), ("http", "https")
ATTEMPTS = 3
RETRIED_STATUS = (408, 429)  # of those below 500
RULE = "an address is a readable file, a folder with files, or a glob: a path, file://, https:// or s3://"
VOLUME_AWAY = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO)
"""What a network volume answers while it is away."""

S3_CODES = {
    "InvalidAccessKeyId": ("the object store does not know the access key", "correct AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", "correct AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": ("the session token has expired", "set fresh keys in the data connection"),
    "RequestTimeTooSkewed": ("the object store's clock and this machine's differ", "set the clock"),
    "NoSuchBucket": ("no such bucket", "correct the bucket's name, or AWS_S3_ENDPOINT if it is another store's"),
    "AccessDenied": ("the keys may not read it", "let the keys' owner read and list the bucket"),
    "403": ("the keys may not read it", "let the keys' owner read and list the bucket"),
    "PermanentRedirect": ("the bucket is in another region", "correct AWS_DEFAULT_REGION and AWS_S3_ENDPOINT"),
    "301": ("the bucket is in another region", "correct AWS_DEFAULT_REGION and AWS_S3_ENDPOINT"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "correct AWS_DEFAULT_REGION"),
}
"""What the object store's error codes mean, and the remedy."""

HTTP_STATUS = {
    404: ("no such file", "correct the address"),
    401: ("the server asks for a login", "give an address that needs no login, or copy the file"),
    403: ("the server refuses to give it", "give an address that needs no login, or copy the file"),
    410: ("no such file any more", "correct the address"),
}


def without_credentials(address: str) -> str:
    """An address to show: without a user, a password and the values of a query, which may be a signature."""
    if "://" not in address:
        return address
    scheme, _, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    if scheme.lower() in HTTP:
        path, question, _ = path.partition("?")
        path += question and "?…"
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def is_of(filesystem: Any, schemes: tuple[str, ...]) -> bool:
    protocols = (filesystem.protocol,) if isinstance(filesystem.protocol, str) else filesystem.protocol
    return bool(set(protocols) & set(schemes))


@contextlib.contextmanager
def reading(where: str, filesystem: Any) -> Iterator[None]:
    """Turn what the libraries raise into a problem, in our words: theirs may hold the address, keys and all."""
    expected: tuple[type[Exception], ...] = (OSError, ValueError)
    explain = _explain
    if is_of(filesystem, S3):
        import aiohttp
        from botocore.exceptions import BotoCoreError, ClientError

        expected, explain = (*expected, BotoCoreError, ClientError, aiohttp.ClientError), _explain_s3
    elif is_of(filesystem, HTTP):
        import aiohttp

        expected, explain = (*expected, aiohttp.ClientError), _explain_http
    try:
        yield
    except Problems:  # a ValueError, too
        raise
    except expected as error:
        if isinstance(error.__cause__, Problems):  # of a connection that was refused here; fsspec wraps it
            raise error.__cause__ from None
        raise explain(error, where) from None


def _explain(error: Exception, where: str) -> Problems:
    match error:
        case FileNotFoundError():
            what = "no such file"
            remedy = "correct the path; on the cluster the workspace is the only disk the step sees"
        case PermissionError():
            what, remedy = f"no permission to read it: {error.strerror}", "make it readable for group 0"
        case OSError():
            what, remedy = f"cannot be read: {error.strerror}", "check the path, then run again"
        case _:
            what, remedy = "no usable address", "correct it"
    may_pass = isinstance(error, OSError) and error.errno in VOLUME_AWAY
    return problem(what, where=where, rule=RULE, remedy=remedy, may_pass=may_pass)


def _explain_s3(error: Exception, where: str) -> Problems:
    cause = error if hasattr(error, "response") else error.__cause__
    response = getattr(cause, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = type(error).__name__
    where = f"{where}, endpoint {without_credentials(os.environ.get('AWS_S3_ENDPOINT', '') or 'of AWS')}"
    if code in S3_CODES:
        what, remedy = S3_CODES[code]
    elif code in ("NoSuchKey", "404") or (isinstance(error, FileNotFoundError) and not code):
        what, remedy = "no such file", "correct the key; upper and lower case are different"
    elif kind in ("NoCredentialsError", "PartialCredentialsError"):
        what = "there are no access keys"
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; on the cluster the secret of the data connection"
    elif kind == "SSLError":
        what = "the endpoint's certificate is not trusted"
        remedy = "set AWS_CA_BUNDLE to the certificate authorities of your company"
    elif isinstance(error, ValueError) or kind in ("ParamValidationError", "InvalidRegionError"):
        what = "no usable bucket, endpoint or region"
        remedy = "correct the address, AWS_S3_ENDPOINT, AWS_DEFAULT_REGION"
    elif status and status < 500 and status not in RETRIED_STATUS:
        what, remedy = f"the object store refuses: {quote(code or status)}", "check the data connection"
    else:
        reason = (
            f"the object store answers {quote(code or status)}" if status else f"the endpoint gives no answer ({kind})"
        )
        return broken(where, reason)
    return problem(what, where=where, rule=RULE, remedy=remedy)


def _explain_http(error: Exception, where: str) -> Problems:
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error  # fsspec: all are FileNotFoundError
    status = getattr(error, "status", 0)
    kind = type(error).__name__
    if status in HTTP_STATUS:
        what, remedy = HTTP_STATUS[status]
    elif isinstance(error, FileNotFoundError):
        what, remedy = "no such file", "correct the address"
    elif "Certificate" in kind or "SSL" in kind:
        what = "the server's certificate is not trusted"
        remedy = "set SSL_CERT_FILE to the certificate authorities of your company"
    elif isinstance(error, ValueError):
        what, remedy = "no usable address", "correct it: https://host/path"
    elif 400 <= status < 500 and status not in RETRIED_STATUS:
        what, remedy = f"the server answers {status}", "correct the address"
    else:
        return broken(where, f"the server answers {status}" if status else f"no answer ({kind})")
    return problem(what, where=where, rule=RULE, remedy=remedy)


def broken(where: str, reason: str) -> Problems:
    """A connection that broke: what may go well another time."""
    return problem(
        f"cannot be read: {reason}",
        where=where,
        rule=f"{RULE}; it is tried {ATTEMPTS} times",
        remedy="check the address, the network policy and the server, then run again",
        may_pass=True,
    )
