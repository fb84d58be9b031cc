"""What is kept of requests, seen from outside: rows and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2


class Kept:
    """What is kept of all requests: the table's rows and the storage's files."""

    def __init__(self, database_url: str, storage_url: str) -> None:
        self._database = psycopg2.connect(database_url)
        self._database.autocommit = True
        self._root = Path(urlsplit(storage_url).path)

    def close(self) -> None:
        self._database.close()

    def execute(self, statement: str, *values: Any) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(statement, values)

    def count(self, statement: str, *values: Any) -> int:
        with self._database.cursor() as cursor:
            cursor.execute(statement, values)
            return int(cursor.fetchone()[0])

    def jobs(self) -> set[str]:
        with self._database.cursor() as cursor:
            cursor.execute("SELECT id::text FROM jobs")
            return {row[0] for row in cursor}

    def files(self, job_id: str = "*") -> list[Path]:
        """The files that came with this job, or with all."""
        return sorted(self._root.glob(f"results/*/{job_id}/input/*"))

    def everything(self, job_id: str) -> list[Path]:
        """All that lies in its folder; what goes while we look does not count."""
        folders = self._root.glob(f"results/*/{job_id}")
        found = [(parent, (*below, *names)) for folder in folders for parent, below, names in os.walk(folder)]
        return [Path(parent, name) for parent, names in found for name in names]

    def snapshot(self) -> tuple[set[str], list[Path]]:
        return self.jobs(), self.files()
