"""supervisord keeps the programs running; this starts it, speaks with it and ends it."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy, Transport

from csb_core.local import ports, private_file, processes

#: All paths are relative to the run directory: the parser would stumble over a space, % or ; in
#: an absolute one.
CONFIGURATION: Final = """\
[supervisord]
nodaemon = true
silent = true
umask = 077
pidfile = supervisord.pid
logfile = log/supervisord.log
logfile_maxbytes = 10MB
logfile_backups = 1
{user}
[inet_http_server]
port = {host}:{port}
username = csb
password = {password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM: Final = """
[program:{name}]
command = "%(ENV_CSB_PYTHON)s" -m csb_core.local.programs programs.json {name}
autostart = false
autorestart = true
startsecs = 1
startretries = 20
priority = {priority}
stopsignal = {signal}
stopwaitsecs = {patience}
killasgroup = true
redirect_stderr = true
stdout_logfile = log/{name}.log
stdout_logfile_maxbytes = 50MB
stdout_logfile_backups = 2
"""

#: What a program is in when there is nothing to start.
UNDER_WAY: Final = frozenset({"STARTING", "RUNNING", "BACKOFF"})

#: How long supervisord may take to answer, and to end a program that was given its time.
ANSWER: Final = timedelta(seconds=5)
ENDING: Final = timedelta(seconds=180)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a program is asked to end, and how long it may take before it is killed."""

    signal: str = "TERM"
    seconds: int


class _Bounded(Transport):
    """XML-RPC that waits no longer than this for an answer."""

    def __init__(self, patience: timedelta) -> None:
        super().__init__()
        self._patience = patience

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = self._patience.total_seconds()
        return connection


class Supervisor:
    """The supervisord of one run directory; whether it runs is asked, never assumed."""

    def __init__(self, run: Path, *, port: int, password: str) -> None:
        self._run = run
        self._port = port
        self._password = password

    def runs(self) -> bool:
        """Whether it runs and answers."""
        return self.pid() is not None and self._answers()

    def pid(self) -> int | None:
        """The process of this run directory's supervisord, None when there is none."""
        try:
            pid = int((self._run / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def start(self, endings: Mapping[str, Ending]) -> None:
        """Start it knowing these programs, none of which runs yet; they end in reverse order.

        Raises NotStarted.
        """
        configuration = self._run / "supervisord.conf"
        sections = [
            PROGRAM.format(name=name, priority=place, signal=ending.signal, patience=ending.seconds)
            for place, (name, ending) in enumerate(endings.items(), start=1)
        ]
        head = CONFIGURATION.format(
            user="user = root" if os.geteuid() == 0 else "",
            host=ports.HOST,
            port=self._port,
            password=self._password,
        )
        private_file.write(configuration, head + "".join(sections))
        env = {**os.environ, "CSB_PYTHON": sys.executable, processes.MARKER: str(self._run)}
        daemon = (sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration))
        argv = ("/usr/bin/env", f"--chdir={self._run}", *daemon)
        log = self._run / "log" / "supervisord.out"
        pid = processes.spawn(argv, log=log, env=env)
        processes.await_start(pid, self.runs, log=log)

    def states(self) -> Mapping[str, Mapping[str, Any]]:
        """What supervisord says of each program, by name; empty when it does not run."""
        if not self.runs():
            return {}
        return {info["name"]: info for info in self._call("getAllProcessInfo")}

    def ensure(self, names: Iterable[str], *, changed: Iterable[str] = ()) -> None:
        """Start what does not run, and anew what has changed; does not wait until it is ready."""
        states = self.states()
        for name in names:
            under_way = states[name]["statename"] in UNDER_WAY
            if under_way and name in changed:
                self._end(name)
            if not under_way or name in changed:
                self._call("startProcess", name, False)  # noqa: FBT003 - XML-RPC has no keywords

    def dismiss(self, names: Iterable[str]) -> None:
        """End these programs and leave them so."""
        states = self.states()
        for name in names:
            if states[name]["statename"] in UNDER_WAY:
                self._end(name)

    def stop(self) -> None:
        """Let it end its programs and then itself; force it when it takes too long."""
        pid = self.pid()
        if pid is not None:
            processes.end(
                [pid],
                self._is_ours,
                signals=(
                    (signal.SIGCONT, timedelta()),  # one that stands still hears nothing else
                    (signal.SIGTERM, ENDING),
                    (signal.SIGKILL, timedelta(seconds=5)),
                ),
            )

    def _is_ours(self, pid: int) -> bool:
        return str(self._run / "supervisord.conf") in processes.command(pid)

    def _answers(self) -> bool:
        try:
            self._call("getState")
        except processes.NotStarted:
            return False
        return True

    def _end(self, name: str) -> None:
        self._call("stopProcess", name, True, patience=ENDING)  # noqa: FBT003

    def _call(self, method: str, *arguments: object, patience: timedelta = ANSWER) -> Any:
        url = f"http://csb:{self._password}@{ports.HOST}:{self._port}/RPC2"
        try:
            with ServerProxy(url, transport=_Bounded(patience)) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, RpcError) as exc:
            raise processes.NotStarted(f"supervisord: {method}: {exc}") from exc
