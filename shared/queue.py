"""The doorbell: a Celery message that carries a job id and nothing else. Only the dispatcher publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import redis
from celery import Celery
from kombu import Queue

from shared.jobs.claims import Doorbell
from shared.keepalive import Patience, options

TASK = "atelier.run_job"
# The task's own limit is the family's longest run and this much more: the runtime stops a job itself first.
TIME_LIMIT_MARGIN = 60
# A worker waits in silence for the next doorbell: within 11 s it notices that the way to Redis is gone.
PATIENCE = Patience(idle=5, pause=2, probes=3, unread=10)


def celery_settings(queues: Mapping[str, str]) -> dict[str, Any]:
    """Celery with nothing to lose: early ack, no prefetch, no results, one spawned child (`queues`: family → queue)."""
    return {
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_pool": "prefork",
        "worker_pool_start_method": "spawn",
        "worker_concurrency": 1,
        "task_ignore_result": True,
        "result_backend": None,
        "accept_content": ["json"],
        "task_serializer": "json",
        "worker_max_tasks_per_child": 200,
        "worker_send_task_events": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a full Redis is waited for, like one that is away
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_proc_alive_timeout": 60,
        "worker_hijack_root_logger": False,
        "task_queues": [Queue(queue, routing_key=queue) for queue in queues.values()],
        "task_create_missing_queues": False,
        "broker_transport_options": {
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "socket_keepalive_options": options(PATIENCE),
            "health_check_interval": 10,
        },
    }


class DoorbellPublisher:
    """The dispatcher's side of Celery; its sockets time out, so a frozen Redis cannot freeze it."""

    def __init__(self, url: str, queues: Mapping[str, str]) -> None:
        self._app = Celery("atelier", broker=url)
        self._app.conf.update(celery_settings(queues))
        self._app.conf.broker_transport_options = {**self._app.conf.broker_transport_options, "socket_timeout": 2}
        self._redis = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        self._queues = dict(queues)

    def waiting(self, family: str) -> int:
        """Doorbells that no worker has heard yet; raises redis.RedisError when Redis is away."""
        return cast(int, self._redis.llen(self._queues[family]))

    def publish(self, family: str, bells: Sequence[Doorbell], time_limit: float) -> None:
        """Ring for these jobs, oldest first; raises what kombu raises when Redis is away."""
        with self._app.producer_or_acquire() as producer:
            for bell in bells:
                self._app.send_task(
                    TASK,
                    args=(str(bell.job_id),),
                    task_id=f"{bell.job_id}.{bell.number}",
                    queue=self._queues[family],
                    time_limit=time_limit,
                    producer=producer,
                    retry=False,
                )

    def close(self) -> None:
        self._redis.close()
        self._app.close()
