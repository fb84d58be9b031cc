"""Every setting of every process, read from the environment once at start.

Addresses of real services keep their customary names (`DATABASE_URL`, `REDIS_URL`, `STORAGE_URL`); all others
start with `ATELIER_`. An unknown `ATELIER_…` variable stops the process, by name: a typo must not pass for a setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared import failpoints
from shared.accounts.password_rules import password_problem
from shared.known_secrets import is_known
from shared.redaction import redact_text

PREFIX = "ATELIER_"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
SECRET_LENGTH, SECRET_LETTERS = 32, 10  # characters; different ones, so that no sample or repetition passes
ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
LOCAL_ONLY = {"ATELIER_HOME"}  # read by the local stack before settings exist
OWNERS = (  # on the Hugging Face hub: those who publish the models that are widely used
    *("black-forest-labs", "distilbert", "facebook", "google", "google-bert", "HuggingFaceTB", "kakao-enterprise"),
    *("latent-consistency", "microsoft", "openai", "Qwen", "sentence-transformers", "sshleifer", "stabilityai"),
    *("stable-diffusion-v1-5", "suno"),
)
LISTS = (
    "families",
    "extra_families",
    "cors_origins",
    "trusted_hosts",
    "trusted_proxies",
    "egress_ports",
    "egress_networks",
    "webhook_schedule",
    "hub_owners",
)  # separated by commas


def _named(name: str) -> Any:
    """A field that is read from exactly this environment variable."""
    return Field(validation_alias=AliasChoices(name))


class Settings(BaseSettings):
    """Field `x` is read from `ATELIER_X` unless another name is given. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    # Where the truth, the doorbells and the artifacts live.
    database_url: str = _named("DATABASE_URL")
    redis_url: str = _named("REDIS_URL")
    storage_url: str = _named("STORAGE_URL")
    s3_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_secret: SecretStr | None = Field(
        None, validation_alias=AliasChoices("AWS_SECRET_ACCESS_KEY"), description="boto3 reads it; here it is judged"
    )

    # What is asked of them (`shared/durability.py`).
    allow_data_loss: bool = Field(False, description="start with a Postgres that may forget commits; for tests")
    max_clock_skew: float = Field(5, ge=0, description="seconds from Postgres's clock; more refuses to start, 0: any")

    # HTTP
    host: str = "127.0.0.1"
    port: PositiveInt = 8000
    gateway_processes: PositiveInt = 1
    enable_auth: bool = Field(False, validation_alias=AliasChoices("ENABLE_AUTH"))
    public_without_auth: bool = False
    max_json_bytes: PositiveInt = 1_000_000
    max_wait: PositiveInt = 600
    database_pool_size: PositiveInt = 16
    header_seconds: PositiveFloat = Field(10, description="within which the head of a request must be complete")
    transfer_bytes_per_second: PositiveInt = Field(
        1000, description="at which a client sends a body and reads an answer on average, at least"
    )
    transfer_grace_seconds: PositiveFloat = Field(30, description="that a client may be late with that")
    hsts_seconds: int = Field(
        31_536_000, ge=0, description="how long browsers stay with TLS, told where a trusted proxy has it; 0: not told"
    )

    # Flower, the operators' view of Celery.
    flower_host: str = "127.0.0.1"
    flower_port: PositiveInt = 5555
    flower_auth: SecretStr | None = Field(None, description="user:password, asked for before anything is shown")
    flower_url: str | None = Field(None, description="where people find it; GET / tells them")

    # Accounts, with ENABLE_AUTH=true.
    secret_key: SecretStr | None = Field(None, description="signs tokens and hashes API keys; at least 32 characters")
    jwt_algorithm: Literal["HS256", "EdDSA"] = "HS256"
    access_token_seconds: PositiveFloat = 1800
    refresh_token_seconds: PositiveFloat = 7 * 86_400
    registration: Literal["open", "closed"] = "open"
    admin_username: str = Field("operator", description="the first admin, made at start if there is none")
    admin_email: str = "operator@localhost.localdomain"
    admin_password: SecretStr | None = None
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may call this API, such as https://app.example.com; * means all"
    )
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="the only values of Host that are answered, such as api.example.com; empty means all"
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )

    # The way out (`shared/egress/`), for addresses that clients name.
    egress_ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], NoDecode] = Field(
        (), description="ports that may be asked besides 80 and 443"
    )
    egress_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="networks (CIDR) that may be asked although they are private"
    )

    # Webhooks (`shared/webhooks/`)
    public_url: str = Field(
        "",
        pattern=r"^(https?://\S*[^/\s])?$",
        description="where clients reach this API, such as https://api.example.com",
    )
    webhook_http: bool = Field(False, description="send events to http:// addresses as well")
    webhook_seconds: PositiveFloat = Field(15, description="a receiver's time for one try, its whole answer included")
    webhook_schedule: Annotated[tuple[Annotated[float, Field(ge=0)], ...], NoDecode] = Field(
        (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        min_length=1,
        description="the pauses before each try, in seconds, separated by commas",
    )
    webhook_log_seconds: PositiveFloat = Field(30 * 86_400, description="how long ended deliveries are kept")
    max_webhooks: PositiveInt = Field(20, description="webhooks an owner may register")

    # Limits: 0 means none.
    rate_limits: bool | None = Field(None, description="count requests; left out, where authentication is on")
    enterprise_per_minute: int = Field(1000, ge=0)
    enterprise_per_day: int = Field(0, ge=0)
    queue_size: int = Field(100, ge=0, description="live queued jobs per family; above it 503 queue_full")
    submit_turn_seconds: PositiveFloat = Field(
        1, description="how long a request waits until the database takes its job; then 503"
    )
    max_live_jobs: int = Field(1000, ge=0, description="queued and running jobs per owner; above it 429")

    # Quotas of an owner, by tier; 0 means none. Stored: bytes of its jobs' files. GPU: seconds a day (UTC) on a device.
    anonymous_stored_bytes: int = Field(0, ge=0, description="for everybody together while authentication is off")
    anonymous_gpu_seconds: float = Field(0, ge=0, description="for everybody together while authentication is off")
    free_stored_bytes: int = Field(5_000_000_000, ge=0)
    free_gpu_seconds: float = Field(3600, ge=0)
    pro_stored_bytes: int = Field(100_000_000_000, ge=0)
    pro_gpu_seconds: float = Field(36_000, ge=0)
    enterprise_stored_bytes: int = Field(0, ge=0)
    enterprise_gpu_seconds: float = Field(0, ge=0)
    usage_ttl_seconds: PositiveFloat = Field(400 * 86_400, description="how long the days of GET /usage are kept")
    max_upload_bytes: PositiveInt = Field(500_000_000, description="of one upload; operations take less")
    max_unfinished_uploads: int = Field(20, ge=0, description="per owner; above it 429")
    max_owner_upload_bytes: int = Field(5_000_000_000, ge=0, description="of all uploads of an owner; above it 413")

    # How long uploads are kept: since their last byte while they are unfinished, since their last use afterwards.
    unfinished_upload_seconds: PositiveFloat = 86_400
    upload_ttl_seconds: PositiveFloat = 7 * 86_400

    # The job's path (`shared/jobs/`). Tests shorten these.
    lease_seconds: PositiveFloat = 60
    heartbeat_seconds: PositiveFloat = 15
    stall_seconds: PositiveFloat = 600
    reap_seconds: PositiveFloat = 10
    redispatch_seconds: PositiveFloat = 60
    unclaimed_seconds: PositiveFloat = 3
    backoff_seconds: PositiveFloat = 5
    backoff_cap_seconds: PositiveFloat = 600
    drain_seconds: PositiveFloat = 60
    deaf_seconds: PositiveFloat = Field(60, description="an idle worker that hears no doorbell for so long ends itself")
    dispatch_window: PositiveInt = 20
    max_failures: PositiveInt = 3
    max_crashes: PositiveInt = Field(2, description="a job fails when its worker died under it so often, wherever")
    poison_workers: PositiveInt = Field(
        2, description="it fails as well when so many different workers died under it, if max_crashes allows more"
    )

    # What breaks jobs is set aside for a while (`shared/breakers/`).
    breaker_jobs: int = Field(
        5, ge=0, description="so many different jobs that crash a model, or find it does not load, pause it; 0: never"
    )
    breaker_window_seconds: PositiveFloat = Field(600, description="within this time")
    breaker_pause_seconds: PositiveFloat = Field(300, description="afterwards one job tries whether the model works")
    quarantine_faults: int = Field(
        2, ge=0, description="so many faults of a device set it aside; 0: never, whatever happens on it"
    )
    quarantine_window_seconds: PositiveFloat = Field(600, description="within this time")
    quarantine_seconds: PositiveFloat = Field(300, description="how long its workers take nothing then")
    deadline_seconds: PositiveFloat = 86_400
    result_ttl_seconds: PositiveFloat = 7 * 86_400
    purge_grace_seconds: PositiveFloat = 900
    idempotency_seconds: PositiveFloat = 86_400

    # Workers
    device: str = Field("auto", validation_alias=AliasChoices("DEVICE"), description="auto, cpu, cuda, cuda:1, …")
    families: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="what this worker serves; empty means all, and -models means all but that"
    )
    extra_families: Annotated[tuple[str, ...], NoDecode] = ()
    models_dir: Path = Path("models")
    image_model: str = "house-shapes"
    avatar_model: str = "house-heads"
    hearing_model: str = Field("house-ear", description="hears where POST /transcribe names no model")
    speech_model: str = Field("house-voice", description="what speaks where a request names no model")
    memory_fraction: float = Field(
        0.8, gt=0, le=1, description="the share of the device's memory above which idle models leave for another"
    )
    model_memory_bytes: int = Field(
        0, ge=0, description="what the weights of a worker's loaded models may take together; 0: no budget"
    )

    # Models from elsewhere (`workers/models/`)
    hub_endpoint: str = Field(
        "https://huggingface.co",
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*[^\s/?#])?$",
        description="the hub, or a mirror of it; one on a private network must be in ATELIER_EGRESS_NETWORKS",
    )
    hub_token: SecretStr | None = Field(None, description="sent to the hub alone, for private and gated repositories")
    hub_offline: bool = Field(False, description="ask no hub and no address for models; what is there can be used")
    hub_owners: Annotated[tuple[str, ...], NoDecode] = Field(
        OWNERS, description="whose repositories may be downloaded; * means everybody's"
    )
    hub_experimental: bool = Field(
        False, description='with `"experimental": true` a request may name a repository of anybody else, too'
    )
    max_model_bytes: PositiveInt = Field(
        20_000_000_000, description='of one download; `"enable_large_model": true` goes beyond it'
    )
    models_reserve_bytes: int = Field(2_000_000_000, ge=0, description="what downloads leave free on the models' disk")
    import_dir: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = Field(
        None, description="the only folder that POST /models/import takes models from"
    )

    failpoints: str = Field("", description="for tests of faults only: see shared/failpoints.py")

    # Logs
    log_level: str = Field("INFO", validation_alias=AliasChoices("LOG_LEVEL"))
    log_json: bool = True
    log_inputs: Literal["none", "hash", "start"] = Field(
        "none", description="what the worker's log says of a job's input: nothing, a hash, or the start of each text"
    )
    access_log: bool = Field(False, description="one line a request, its address without the query")

    @property
    def is_exposed(self) -> bool:
        """Whether others reach the gateway: from the network, or through a proxy on this machine."""
        return self.host not in LOOPBACK or bool(self.trusted_proxies)

    @property
    def limits_requests(self) -> bool:
        return self.enable_auth if self.rate_limits is None else self.rate_limits

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in LISTS:
            if isinstance(values.get(name), str):
                values[name] = tuple(part.strip() for part in values[name].split(",") if part.strip())
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lease_seconds < 4 * self.heartbeat_seconds:
            raise ValueError("ATELIER_LEASE_SECONDS must be at least four times ATELIER_HEARTBEAT_SECONDS")
        self._check_origins()
        if any(network.prefixlen == 0 for network in self.trusted_proxies):
            raise ValueError("ATELIER_TRUSTED_PROXIES: whoever believes everybody believes forged addresses; list them")
        for name, url in (("DATABASE_URL", self.database_url), ("REDIS_URL", self.redis_url)):
            _check_known(name, url, exposed=self.is_exposed)
        if self.s3_endpoint_url and self.s3_secret and _is_distant(self.s3_endpoint_url, self.is_exposed):
            _refuse_known("AWS_SECRET_ACCESS_KEY", self.s3_secret.get_secret_value())
        self._check_flower()
        if self.failpoints:
            self._check_failpoints()
        if self.enable_auth:
            _check_secret(self.secret_key)
            for name, url in (("DATABASE_URL", self.database_url), ("REDIS_URL", self.redis_url)):
                _check_password(name, url)
            self._check_admin()
        elif self.host not in LOOPBACK and not self.public_without_auth:
            raise ValueError(
                f"ATELIER_HOST={self.host} is reachable by others and authentication is off; set ENABLE_AUTH=true, "
                "or ATELIER_PUBLIC_WITHOUT_AUTH=true as well if that is meant"
            )
        return self

    def _check_admin(self) -> None:
        password = self.admin_password.get_secret_value() if self.admin_password else ""
        if password and (problem := password_problem(password)):
            raise ValueError(f"ATELIER_ADMIN_PASSWORD: {problem}")
        if password and self.is_exposed:
            _refuse_known("ATELIER_ADMIN_PASSWORD", password, self.admin_username)

    def _check_failpoints(self) -> None:
        """Never where somebody could be served: not for accounts, not for other machines, not with their servers."""
        servers = (self.database_url, self.redis_url)
        if self.enable_auth or any(_is_distant(url, self.is_exposed) for url in servers):
            raise ValueError(
                "ATELIER_FAILPOINTS makes processes fail on purpose; it is refused with ENABLE_AUTH=true, where others "
                "reach the gateway, and with servers on other machines"
            )
        try:
            failpoints.parse(self.failpoints)
        except ValueError as error:
            raise ValueError(f"ATELIER_FAILPOINTS: {error}") from None

    def _check_flower(self) -> None:
        if self.flower_auth is None:
            if self.flower_host not in LOOPBACK:
                raise ValueError(
                    f"ATELIER_FLOWER_HOST={self.flower_host} is reachable by others; set ATELIER_FLOWER_AUTH"
                )
            return
        user, _, password = self.flower_auth.get_secret_value().partition(":")
        if not user or not password:
            raise ValueError("ATELIER_FLOWER_AUTH must be user:password")
        if self.flower_host not in LOOPBACK:
            _refuse_known("ATELIER_FLOWER_AUTH", password, user)

    def _check_origins(self) -> None:
        if "*" in self.cors_origins:
            if len(self.cors_origins) > 1:
                raise ValueError("ATELIER_CORS_ORIGINS: * means all, so nothing can stand beside it")
            if not self.enable_auth and not self.public_without_auth:
                raise ValueError(
                    "ATELIER_CORS_ORIGINS=* and authentication is off: every page that a browser here opens could use "
                    "the API; list the origins, or set ATELIER_PUBLIC_WITHOUT_AUTH=true if that is meant"
                )
        for origin in self.cors_origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"ATELIER_CORS_ORIGINS: {origin!r} is no origin; one is such as https://app.example.com, "
                    "without a path or a / at its end"
                )


def _check_known(name: str, url: str, *, exposed: bool) -> None:
    """What others reach may not be kept by a password that everybody knows, whichever process connects."""
    parts = urlsplit(url)
    in_query = parse_qs(parts.query, keep_blank_values=True).get("password", [None])[0]
    password = in_query if parts.password is None else unquote(parts.password)
    if password is not None and _is_distant(url, exposed):
        _refuse_known(name, password, parts.username)


def _is_distant(url: str, exposed: bool) -> bool:
    """Whether its server is another machine, or stands beside a process that others reach."""
    return exposed or urlsplit(url).hostname not in LOOPBACK


def _refuse_known(name: str, secret: str, username: str | None = None) -> None:
    if is_known(secret, username):
        raise ValueError(f"{name} has a password that everybody knows; `openssl rand -hex 24` prints a good one")


def _check_secret(secret: SecretStr | None) -> None:
    text = secret.get_secret_value() if secret else ""
    if len(text) < SECRET_LENGTH or len(set(text)) < SECRET_LETTERS:
        raise ValueError(
            f"ENABLE_AUTH=true needs ATELIER_SECRET_KEY: {SECRET_LENGTH} random characters or more, "
            "such as `openssl rand -base64 48` prints"
        )


def _check_password(name: str, url: str) -> None:
    """Whoever has accounts has something to hide; a server that others reach must ask who they are."""
    parts = urlsplit(url)
    if parts.hostname and parts.hostname not in LOOPBACK and not parts.password:
        raise ValueError(f"ENABLE_AUTH=true, but {name} reaches {parts.hostname} without a password")


def environment_names() -> set[str]:
    """Every environment variable that some process reads."""
    names = set(LOCAL_ONLY)
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names.update(str(choice) for choice in alias.choices)
        else:
            names.add(PREFIX + name.upper())
    return names


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """`ATELIER_…` variables that no setting reads."""
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in environment_names())


@lru_cache
def get_settings() -> Settings:
    """This process's settings; exits with one line that names what is wrong."""
    if unknown := unknown_names(os.environ):
        raise SystemExit(f"unknown setting: {', '.join(unknown)}")
    try:
        settings = Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        problems = "; ".join(_in_words(entry) for entry in error.errors(include_url=False, include_input=False))
        raise SystemExit(f"settings: {redact_text(problems)}") from None
    failpoints.arm(settings.failpoints)
    return settings


def _in_words(error: Mapping[str, Any]) -> str:
    """What is wrong with which variable."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message  # it names its variables itself
    name = str(error["loc"][0])
    return f"{name if name.isupper() else PREFIX + name.upper()}: {message}"
