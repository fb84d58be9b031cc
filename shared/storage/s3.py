"""Artifacts in a bucket of any S3-protocol server, through boto3."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.storage.interface import CHUNK, ObjectExists, ObjectMissing, StorageError, StoredObject
from shared.storage.keys import checked_key

PART = 8 * CHUNK  # bytes of one part of a multipart upload
MISSING = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """botocore's errors as the interface's."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in MISSING:
            raise ObjectMissing(key) from None
        if code in TAKEN:
            raise ObjectExists(key) from None
        raise StorageError(f"{key}: {code}") from error
    except BotoCoreError as error:
        raise StorageError(f"{key}: {error}") from error


class S3Storage:
    """Objects under one prefix of a bucket. Credentials come from the environment, as boto3 reads them."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None, region: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 3},
                s3={"addressing_style": "path" if endpoint_url else "auto"},
                # Servers other than Amazon's refuse or garble the newer default checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=32,
            ),
        )

    def put(self, key: str, chunks: Iterable[bytes], media_type: str) -> StoredObject:
        """See Storage.put; up to PART bytes in one request, more as a multipart upload."""
        where = self._where(key)
        tally = _Tally(chunks)
        parts = tally.parts()
        first = next(parts, b"")
        second = next(parts, None)
        with _translated(key):
            if second is None:
                self._client.put_object(**where, Body=first, ContentType=media_type, IfNoneMatch="*")
            else:
                self._put_parts(key, where, media_type, first, second, parts)
        return StoredObject(key, tally.size, tally.sha256, tally.crc32)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See Storage.read; raises StorageError if the object is shorter than `end`."""
        if end is not None and end <= start:
            return
        left = None if end is None else end - start
        with _translated(key):
            answer = self._client.get_object(**self._where(key), Range=f"bytes={start}-{'' if end is None else end - 1}")
            with closing(answer["Body"]) as body:
                for chunk in body.iter_chunks(CHUNK):
                    left = None if left is None else left - len(chunk)
                    yield chunk
        if left:
            raise StorageError(f"{key} is shorter than it was")

    def size(self, key: str) -> int:
        """See Storage.size."""
        with _translated(key):
            return int(self._client.head_object(**self._where(key))["ContentLength"])

    def delete(self, keys: Iterable[str]) -> None:
        """See Storage.delete; up to 1,000 keys a request."""
        names = [{"Key": self._where(key)["Key"]} for key in keys]
        for first in range(0, len(names), 1000):
            with _translated("delete"):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": names[first : first + 1000], "Quiet": True}
                )
            if failed := answer.get("Errors"):
                raise StorageError(f"{len(failed)} objects could not be deleted: {failed[0].get('Code')}")

    def list(self, prefix: str) -> Iterator[str]:
        """See Storage.list."""
        whole = f"{self._prefix}{checked_key(prefix.rstrip('/'))}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=whole)
        with _translated(prefix):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self._prefix)

    def check(self) -> None:
        """See Storage.check."""
        with _translated(f"bucket {self._bucket}"):
            self._client.head_bucket(Bucket=self._bucket)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _where(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    def _put_parts(
        self, key: str, where: dict[str, Any], media_type: str, first: bytes, second: bytes, rest: Iterator[bytes]
    ) -> None:
        self._refuse_taken(key, where)
        upload = {**where, "UploadId": self._client.create_multipart_upload(**where, ContentType=media_type)["UploadId"]}
        try:
            done = [self._put_part(upload, 1, first), self._put_part(upload, 2, second)]
            done += [self._put_part(upload, number, part) for number, part in enumerate(rest, start=3)]
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done}, IfNoneMatch="*")
        except BaseException:
            self._client.abort_multipart_upload(**upload)
            raise

    def _put_part(self, upload: dict[str, Any], number: int, part: bytes) -> dict[str, Any]:
        answer = self._client.upload_part(**upload, PartNumber=number, Body=part)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _refuse_taken(self, key: str, where: dict[str, Any]) -> None:
        """Some servers ignore If-None-Match when a multipart upload completes: look first as well."""
        try:
            self._client.head_object(**where)
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) in MISSING:
                return
            raise
        raise ObjectExists(key)


class _Tally:
    """Counts and hashes chunks while they pass, regrouped into parts."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._digest = chunks, hashlib.sha256()
        self.size, self.crc32 = 0, 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def parts(self) -> Iterator[bytes]:
        """Parts of PART bytes, the last one shorter."""
        held = bytearray()
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.crc32 = zlib.crc32(chunk, self.crc32)
            self.size += len(chunk)
            held += chunk
            while len(held) >= PART:
                yield bytes(held[:PART])
                del held[:PART]
        if held:
            yield bytes(held)
