"""What can be wrong with a model from elsewhere. The texts are shown to the client, the codes are fixed.

RunnerError
├── InputRejected
│   ├── HubRefused      hub_refused      the hub has no such thing, or not for us
│   ├── UnsafeModel     unsafe_model     it would run code, or is not what its name says
│   ├── ModelTooLarge   model_too_large
│   ├── NameTaken       name_taken       another model has the name
│   ├── HashMismatch    hash_mismatch    twice other bytes than the hub says
│   ├── DiskFull        disk_full
│   └── Offline         offline
└── HubUnavailable      hub_unavailable  silent, broken or busy: the next attempt goes on from here

An address that gives no such file, or does not answer, is `workers.runtime.fetching`'s FetchRefused or FetchFailed.
"""

from __future__ import annotations

from workers.runtime.runner import InputRejected, RunnerError


class HubRefused(InputRejected):
    code = "hub_refused"


class UnsafeModel(InputRejected):
    code = "unsafe_model"


class ModelTooLarge(InputRejected):
    code = "model_too_large"


class NameTaken(InputRejected):
    code = "name_taken"


class HashMismatch(InputRejected):
    code = "hash_mismatch"


class DiskFull(InputRejected):
    code = "disk_full"


class Offline(InputRejected):
    code = "offline"


class HubUnavailable(RunnerError):
    code = "hub_unavailable"
