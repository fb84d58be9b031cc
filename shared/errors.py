"""The errors a client can meet. One class a status and code; `services/gateway/errors.py` renders them all alike.

AtelierError
├── ValidationFailed      400 validation_error
│   └── InvalidCursor     400 validation_error
├── Unauthorized          401 unauthorized
├── Forbidden             403 forbidden
├── NotFound              404 not_found
├── MethodNotAllowed      405 method_not_allowed
├── NotAcceptable         406 not_acceptable
├── RequestTimedOut       408 request_timeout
├── Conflict              409 conflict
│   ├── JobNotFinished    409 job_not_finished
│   ├── JobFailed         409 job_failed
│   ├── JobFinished       409 job_finished
│   └── JobLive           409 job_live
├── Gone                  410 gone
├── PreconditionFailed    412 precondition_failed
├── PayloadTooLarge       413 payload_too_large
├── UnsupportedMediaType  415 unsupported_media_type
├── IdempotencyMismatch   422 idempotency_key_reused
├── RateLimited           429 too_many_jobs
│   └── QuotaExceeded     429 quota_exceeded
├── ChecksumMismatch      460 checksum_mismatch
├── ResultDamaged         500 result_damaged
├── Unavailable           503 unavailable
│   ├── QueueFull         503 queue_full
│   └── ModelUnavailable  503 model_unavailable
└── TimedOut              504 timeout
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class AtelierError(Exception):
    """Something the client is told: `message` is safe to show, `details` is JSON."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        self.error_code = code or self.code


class ValidationFailed(AtelierError):
    """The request is not what the operation accepts; `field` names the place."""

    status, code = 400, "validation_error"

    def __init__(self, message: str, *, field: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, details={**({"field": field} if field else {}), **(details or {})})


class InvalidCursor(ValidationFailed):
    """A page token that this API did not give out."""


class Unauthorized(AtelierError):
    status, code = 401, "unauthorized"


class Forbidden(AtelierError):
    status, code = 403, "forbidden"


class NotFound(AtelierError):
    status, code = 404, "not_found"


class MethodNotAllowed(AtelierError):
    status, code = 405, "method_not_allowed"


class NotAcceptable(AtelierError):
    status, code = 406, "not_acceptable"


class RequestTimedOut(AtelierError):
    """The request itself did not arrive in time."""

    status, code = 408, "request_timeout"


class Conflict(AtelierError):
    status, code = 409, "conflict"


class JobNotFinished(Conflict):
    code = "job_not_finished"


class JobFailed(Conflict):
    code = "job_failed"


class JobFinished(Conflict):
    code = "job_finished"


class JobLive(Conflict):
    code = "job_live"


class Gone(AtelierError):
    status, code = 410, "gone"


class PreconditionFailed(AtelierError):
    """The client speaks another version of the protocol."""

    status, code = 412, "precondition_failed"


class PayloadTooLarge(AtelierError):
    status, code = 413, "payload_too_large"


class UnsupportedMediaType(AtelierError):
    status, code = 415, "unsupported_media_type"


class IdempotencyMismatch(AtelierError):
    """The same Idempotency-Key came with another request."""

    status, code = 422, "idempotency_key_reused"


class RateLimited(AtelierError):
    """The owner has as many live jobs as allowed."""

    status, code = 429, "too_many_jobs"


class QuotaExceeded(RateLimited):
    """The owner has used what it may; `details` name the quota, what is used, and when there is room again."""

    code = "quota_exceeded"


class ChecksumMismatch(AtelierError):
    """The bytes are not what the client says that it sent; the status is tus's own."""

    status, code = 460, "checksum_mismatch"


class ResultDamaged(AtelierError):
    """What is stored is not what the job made: it is not served, and asking again does not help."""

    status, code = 500, "result_damaged"


class Unavailable(AtelierError):
    """The platform cannot do it now; Retry-After says when to ask again."""

    status, code = 503, "unavailable"


class OutcomeUnknown(Unavailable):
    """The database went away at a moment at which it may have done it, or may do it still."""


class QueueFull(Unavailable):
    code = "queue_full"


class ModelUnavailable(Unavailable):
    """No usable weights, or no live worker that serves them."""

    code = "model_unavailable"


class ModelPaused(ModelUnavailable):
    """Too many jobs crashed the model; `details` say since when, and until when nothing is taken for it."""

    code = "model_paused"


class TimedOut(AtelierError):
    """The job was not done within the time that its request allowed."""

    status, code = 504, "timeout"
