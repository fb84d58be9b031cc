"""Artifacts in a bucket of any S3-protocol server, through boto3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.storage.interface import CHUNK, ObjectExists, ObjectMissing, StorageError, StoredObject
from shared.storage.keys import checked_key
from shared.storage.tally import Tally

PART = 16 * CHUNK  # bytes of one part of a multipart upload
DELETE_BATCH = 1000  # the protocol's most
MISSING = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}
PAST_THE_END = {"416", "InvalidRange"}


@contextmanager
def _translated(what: str, missing: type[StorageError] = StorageError) -> Iterator[None]:
    """botocore's errors as the interface's."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in TAKEN:
            raise ObjectExists(what) from error
        kind = missing if code in MISSING else StorageError
        raise kind(f"{what}: {code} {error.response.get('Error', {}).get('Message', '')}".rstrip()) from error
    except BotoCoreError as error:
        raise StorageError(f"{what}: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


class S3Storage:
    """Objects under one prefix of a bucket. Credentials come from the environment, as boto3 reads them."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None, region: str) -> None:
        self._bucket = bucket
        self._prefix = f"{checked_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self._client = boto3.Session().client(  # boto3's default session is not safe to share between threads
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 3},
                s3={"addressing_style": "path" if endpoint_url else "auto"},
                # Servers other than Amazon's refuse or garble the newer default checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=32,
            ),
        )

    def put(self, key: str, chunks: Iterable[bytes], media_type: str) -> StoredObject:
        """See Storage.put; less than PART bytes in one request, more as a multipart upload.

        A first try whose answer was lost makes the second say ObjectExists.
        """
        where = self._where(key)
        tally = Tally(key)
        parts = _parts(tally.over(chunks))
        first = next(parts, bytearray())
        if len(first) < PART:
            with _translated(key):
                self._client.put_object(**where, Body=first, ContentType=media_type, IfNoneMatch="*")
        else:
            self._refuse_taken(key)
            with _translated(key):
                self._put_parts(where, chain((first,), parts), media_type)
        return tally.stored()

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See Storage.read; at most one request."""
        if end is not None and end <= start:
            self._refuse_short(key, end)
            return
        with _translated(key, missing=ObjectMissing):
            answer = self._get(key, start, end)
            if answer is None:
                return
            with closing(answer["Body"]) as body:
                if end is not None and answer["ContentLength"] != end - start:
                    raise StorageError(f"{key} is shorter than {end} bytes")
                yield from body.iter_chunks(CHUNK)

    def size(self, key: str) -> int:
        """See Storage.size."""
        where = self._where(key)
        with _translated(key, missing=ObjectMissing):
            return int(self._client.head_object(**where)["ContentLength"])

    def delete(self, keys: Iterable[str]) -> None:
        """See Storage.delete."""
        names = ({"Key": self._where(key)["Key"]} for key in keys)
        while batch := [*islice(names, DELETE_BATCH)]:
            with _translated("delete"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
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

    def sweep(self, older_than: float) -> None:
        """See Storage.sweep: multipart uploads that were begun that long ago."""
        horizon = datetime.now(UTC) - timedelta(seconds=older_than)
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        with _translated("sweep"):
            for page in pages:
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < horizon:
                        self._abort(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def check(self) -> None:
        """See Storage.check; an upload begun and aborted proves the right to write and leaves nothing."""
        where = self._where("check")
        with _translated(f"bucket {self._bucket}"):
            self._client.head_bucket(Bucket=self._bucket)
            upload = self._client.create_multipart_upload(**where)
            self._client.abort_multipart_upload(**where, UploadId=upload["UploadId"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _where(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    def _get(self, key: str, start: int, end: int | None) -> dict[str, Any] | None:
        """The answer to a ranged request, or None if there is nothing from `start` on."""
        where = self._where(key)
        if start or end is not None:  # an empty object has no range, not even "0-"
            where["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            return dict(self._client.get_object(**where))
        except ClientError as error:
            if end is None and _code(error) in PAST_THE_END:
                return None
            raise

    def _put_parts(self, where: dict[str, Any], parts: Iterable[bytearray], media_type: str) -> None:
        begun = self._client.create_multipart_upload(**where, ContentType=media_type)
        upload = {**where, "UploadId": begun["UploadId"]}
        try:
            done = [self._put_part(upload, number, part) for number, part in enumerate(parts, start=1)]
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done}, IfNoneMatch="*")
        except BaseException:
            self._abort(**upload)
            raise

    def _put_part(self, upload: dict[str, Any], number: int, part: bytearray) -> dict[str, Any]:
        answer = self._client.upload_part(**upload, PartNumber=number, Body=part)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort(self, **upload: str) -> None:
        with suppress(ClientError, BotoCoreError):  # a sweep gets it later; the first error matters more
            self._client.abort_multipart_upload(**upload)

    def _refuse_taken(self, key: str) -> None:
        """Some servers ignore If-None-Match when a multipart upload completes: look first as well."""
        with suppress(ObjectMissing):
            self.size(key)
            raise ObjectExists(key)

    def _refuse_short(self, key: str, end: int) -> None:
        if self.size(key) < end:
            raise StorageError(f"{key} is shorter than {end} bytes")


def _parts(chunks: Iterable[bytes]) -> Iterator[bytearray]:
    """The same bytes in parts of PART, the last one shorter."""
    held = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            taken = view[: PART - len(held)]
            held += taken
            view = view[len(taken) :]
            if len(held) == PART:
                yield held
                held = bytearray()
    if held:
        yield held
