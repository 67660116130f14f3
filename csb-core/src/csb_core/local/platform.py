"""The platform as a whole: brought up, taken down, looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from csb_core.local import database, health, parts, postgres, private_file, programs, redis, seeds
from csb_core.local.fleet import ENDINGS, Fleet, choose_ports
from csb_core.local.layout import Layout
from csb_core.local.local_aws import describe
from csb_core.local.memory import Memory
from csb_core.local.ports import HOST
from csb_core.local.processes import NotStarted, tail
from csb_core.local.programs import Program
from csb_core.local.standing import supervisor_of
from csb_core.local.supervisor import Supervisor
from csb_core.local.sweep import sweep

PATIENCE = timedelta(seconds=90)


def up(layout: Layout, environ: Mapping[str, str]) -> dict[str, str]:
    """Bring everything up and wait until it is ready; return what csb.env says.

    Called again it starts what is dead, starts anew what is to run with other settings, and leaves
    the rest alone. When nothing ran and it fails, nothing is left running. Raises
    ConfigurationError, NotStarted, NotMigrated; a note on the error tells what became of the rest.
    """
    with layout.locked(), _all_or_nothing(layout):
        memory = Memory(layout.memory)
        written = parts.read_environment(layout.environment)
        chosen = parts.choose(environ, written=written, memory=memory)
        supervisor, fleet = _prepare(layout, chosen, memory, environ)

        stores = _stores(fleet)
        _run(layout, supervisor, stores)
        urls = _database(fleet, memory)
        redis_url = chosen.redis_url or redis.url(layout.redis, port=fleet.ports["redis"])

        admin_url = urls["CSB_ADMIN_DATABASE_URL"]
        planted = seeds.plant(admin_url, memory, with_accounts=chosen.aws != "real")
        local = describe(layout.run, planted.external_ids) if chosen.aws == "local" else None

        services = [
            *([fleet.local_aws(local)] if local else []),
            fleet.api(urls["CSB_DATABASE_URL"], redis_url),
            fleet.worker_aws(urls["CSB_AWS_DATABASE_URL"], redis_url, local),
            fleet.worker_sandbox(urls["CSB_SANDBOX_DATABASE_URL"], redis_url),
        ]
        _run(layout, supervisor, services)
        _only(layout, supervisor, [*stores, *services])

        values = _addresses(fleet) | urls | {"CSB_REDIS_URL": redis_url} | planted.values
        values |= local.client_identity() if local else {}
        lines = "".join(f"{name}={value}\n" for name, value in values.items())
        parts.remember(chosen, memory)
        private_file.write(layout.environment, lines)
        return values


def down(layout: Layout) -> int:
    """End everything that belongs to this run directory; return how many strays there were.

    The supervisor ends its programs; what a killed supervisor left is found and ended as well.
    """
    with layout.locked():
        supervisor_of(layout, Memory(layout.memory)).stop()
        return sweep(layout)


def follow_logs(layout: Layout) -> None:
    """Become tail, following every log; does not return."""
    logs = sorted(str(path) for path in layout.log.glob("*.log"))
    if not logs:
        raise NotStarted(f"no logs in {layout.log} yet: call make up first")
    os.execvp("tail", ["tail", "-n", "20", "-F", *logs])  # noqa: S606


@contextmanager
def _all_or_nothing(layout: Layout) -> Iterator[None]:
    """End what was begun inside when it fails, unless a platform ran before; the logs stay."""
    ran = supervisor_of(layout, Memory(layout.memory)).runs()
    try:
        yield
    except BaseException as exc:
        supervisor = supervisor_of(layout, Memory(layout.memory))
        if ran:
            exc.add_note("what else runs goes on: make status shows it, make down ends it")
        elif supervisor.pid():
            supervisor.stop()
            sweep(layout)
            exc.add_note(f"what had started was ended again; all logs are in {layout.log}")
        raise


def _prepare(
    layout: Layout, chosen: parts.Parts, memory: Memory, environ: Mapping[str, str]
) -> tuple[Supervisor, Fleet]:
    """The supervisor, running, and the fleet with its ports."""
    supervisor = supervisor_of(layout, memory)
    if not supervisor.runs():
        supervisor.stop()
        sweep(layout)
        ports = choose_ports(memory, environ, running=frozenset())
        supervisor = supervisor_of(layout, memory)
        supervisor.start(ENDINGS)
    else:
        states = supervisor.states()
        running = {
            name for name, state in states.items() if state["statename"] in {"STARTING", "RUNNING"}
        }
        ports = choose_ports(memory, environ, running=frozenset({*running, "supervisor"}))
    return supervisor, Fleet(layout=layout, parts=chosen, ports=ports, environ=environ)


def _stores(fleet: Fleet) -> list[Program]:
    """The embedded PostgreSQL and Redis, where the caller brought none."""
    return [
        *([] if fleet.parts.database_url else [fleet.postgres()]),
        *([] if fleet.parts.redis_url else [fleet.redis()]),
    ]


def _database(fleet: Fleet, memory: Memory) -> dict[str, str]:
    given = dict(fleet.parts.database_urls)
    if not given:
        port = fleet.ports["postgres"]
        superuser = postgres.superuser_url(fleet.layout.postgres, port=port)
        given = {"CSB_DATABASE_URL": database.create(superuser)}
    urls = database.role_urls(given, memory, root=fleet.layout.root)
    database.migrate(urls["CSB_MIGRATOR_DATABASE_URL"], root=fleet.layout.root)
    return urls


def _run(layout: Layout, supervisor: Supervisor, wanted: list[Program]) -> None:
    """See to it that these programs run as described and are ready. Raises NotStarted."""
    before = programs.read(layout.programs)
    described = before | {program.name: program for program in wanted}
    programs.write(layout.programs, list(described.values()))
    changed = {p.name for p in wanted if p.name in before and before[p.name] != p}
    supervisor.ensure([program.name for program in wanted], changed=changed)
    _await_ready(layout, supervisor, wanted)


def _await_ready(layout: Layout, supervisor: Supervisor, wanted: Iterable[Program]) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    for program in wanted:
        while (found := health.of(program)) != "ready":
            state = supervisor.states()[program.name]["statename"]
            if state == "FATAL" or time.monotonic() > deadline:
                log = layout.log / f"{program.name}.log"
                raise NotStarted(
                    f"{program.name} is {found} ({state.lower()}); the end of {log}:\n{tail(log)}"
                )
            time.sleep(0.1)


def _only(layout: Layout, supervisor: Supervisor, wanted: Iterable[Program]) -> None:
    """End what ran before and is not wanted any more."""
    programs.write(layout.programs, wanted := list(wanted))
    supervisor.dismiss(set(ENDINGS) - {program.name for program in wanted})


def _addresses(fleet: Fleet) -> dict[str, str]:
    endpoint = fleet.aws_endpoint()
    return {
        "CSB_URL": f"http://{HOST}:{fleet.ports['api']}",
        "CSB_METRICS_URL": f"http://{HOST}:{fleet.ports['api-metrics']}/metrics",
        **({"AWS_ENDPOINT_URL": endpoint} if endpoint else {}),
    }
