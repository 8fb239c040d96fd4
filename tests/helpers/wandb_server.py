"""As much of a W&B server as uploads need, in this process; what it was sent can be looked at."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "0123456789abcdef" * 2 + "fedcba98"


@dataclass
class StoredOnServer:
    """A run. history: its rows by the place that the client gave them."""

    project: str
    state: str = "running"
    name: str = ""
    group: str = ""
    config: str = "{}"
    summary: str = "{}"
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    preempting: bool = False

    @property
    def steps(self) -> list[int]:
        """Of its rows in their order."""
        return [self.history[place]["_step"] for place in sorted(self.history)]

    @property
    def options(self) -> dict[str, Any]:
        """The configuration, without what wandb adds."""
        values = {key: item["value"] for key, item in json.loads(self.config).items()}
        return {key: value for key, value in values.items() if key != "_wandb"}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.runs: dict[str, StoredOnServer] = {}
        self.requests = 0
        self.keys_taken = 10**6  # how many times it takes the key
        self.rows_refused_of: set[str] = set()  # ids of runs
        self.rows_taken = 10**6  # of all runs together; then it stops answering
        self.stopped = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def only_run(self) -> StoredOnServer:
        (run,) = self.runs.values()
        return run

    def query(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL request."""
        name = given.get("name", "")
        run = self.runs.get(name)
        if operation in ("Viewer", "GetDefaultEntity"):
            person = {"id": "v", "entity": "team", "username": "u", "email": "", "flags": "{}"}
            self.keys_taken -= operation == "Viewer"
            return {"viewer": person | {"teams": {"edges": []}} if self.keys_taken >= 0 else None}
        if operation == "RunResumeStatus":
            if run is not None:
                run.preempting = False
            return {"model": {**_project(given["project"]), "bucket": run and _bucket(name, run)}}
        if operation == "UpsertBucket":
            new = run is None
            run = self.runs.setdefault(name, StoredOnServer(given["project"]))
            run.state = "running"
            run.name = given["displayName"] or run.name
            run.group = given["groupName"] or run.group
            run.config = given["config"] or run.config
            return {"upsertBucket": {"bucket": _bucket(name, run), "inserted": new}}
        if operation == "CreateRunFiles":
            urls = [
                {"name": file, "uploadUrl": f"{self.url}/storage/{given['run']}/{file}"}
                for file in given["files"]
            ]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": urls}}
        if operation == "Run" and run is not None:
            return {"project": {"run": _bucket(name, run) | {"state": run.state}}}
        raise ValueError(f"{operation} is not known here")

    def take(self, name: str, sent: dict[str, Any]) -> None:
        """A part of a run's stream."""
        run = self.runs[name]
        files = sent.get("files", {})
        for place, line in enumerate(
            files.get("wandb-history.jsonl", {}).get("content", []),
            start=files.get("wandb-history.jsonl", {}).get("offset", 0),
        ):
            if self.rows_taken == 0:
                self.stopped.set()
                self.answers.clear()
                self.answers.wait()
                return
            self.rows_taken -= 1
            run.history[place] = json.loads(line)
        if "wandb-summary.json" in files:
            (run.summary,) = files["wandb-summary.json"]["content"]
        run.preempting |= sent.get("preempting", False)
        if sent.get("complete"):
            run.state = "finished" if sent["exitcode"] == 0 else "failed"
            if run.state == "failed" and run.preempting:
                run.state = "preempted"


@contextlib.contextmanager
def known_server(folder: Path, environment: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that wandb knows in this process; its files go to a folder."""
    import wandb  # here, since there are tests of doing without it

    server = Server()
    environment.setenv("WANDB_BASE_URL", server.url)
    environment.setenv("WANDB_API_KEY", KEY)
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        environment.setenv(name, str(folder))
    wandb.teardown()
    yield server
    wandb.teardown()
    server.shutdown()
    server.server_close()


def _project(name: str) -> dict[str, Any]:
    return {"id": "p", "name": name, "entity": {"id": "e", "name": "team"}}


def _bucket(name: str, run: StoredOnServer) -> dict[str, Any]:
    last = json.dumps(run.history[max(run.history)]) if run.history else None
    return {
        **{"id": "b", "name": name, "displayName": run.name, "description": "", "notes": ""},
        **{"summaryMetrics": run.summary, "config": run.config, "wandbConfig": '{"t": 1}'},
        **{"eventsTail": "[]", "historyTail": json.dumps([last] if last else [])},
        **{"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(run.history)},
        **{"tags": [], "sweepName": None, "project": _project(run.project)},
    }


class _Requests(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/otel/" in self.path:
            return self._answer(404, {})
        self.server.requests += 1
        self.server.answers.wait()
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            try:
                assert operation is not None
                data = self.server.query(operation[1], request.get("variables", {}))
            except ValueError as error:
                return self._answer(200, {"errors": [{"message": str(error)}]})
            return self._answer(200, {"data": data})
        name = self.path.split("/")[-2]
        if name in self.server.rows_refused_of:
            return self._answer(403, {"error": "not yours"})
        self.server.take(name, json.loads(body))
        return self._answer(200, {})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, _, name, file = self.path.split("/", 3)
        self.server.runs[name].files.add(file)
        self._answer(200, {})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass
