"""What is embedded, what is the caller's, and what one start leaves to the next."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from csb_core.errors import ConfigurationError
from csb_core.local import parts, ports, private_file, programs
from csb_core.local.__main__ import main
from csb_core.local.fleet import PORTS, Fleet, choose_ports
from csb_core.local.layout import Layout
from csb_core.local.memory import Memory
from csb_core.local.parts import Parts
from csb_core.local.programs import Program

THEIRS = "postgresql://boss:secret@db.example:5432/theirs?sslmode=require"
OURS = "postgresql://csb_api_user:abc@127.0.0.1:20001/csb"


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "memory.json")


def choose(memory: Memory, environ: Mapping[str, str], **written: str) -> Parts:
    """What a start that succeeds chooses."""
    chosen = parts.choose(environ, written=written, memory=memory)
    parts.remember(chosen, memory)
    return chosen


def test_with_nothing_given_everything_is_embedded(memory: Memory) -> None:
    chosen = choose(memory, {})
    assert (chosen.database_url, chosen.redis_url, chosen.aws) == (None, None, "local")


def test_credentials_alone_do_not_reach_aws(memory: Memory) -> None:
    chosen = choose(memory, {"AWS_ACCESS_KEY_ID": "AKIAREAL", "AWS_SECRET_ACCESS_KEY": "x"})
    assert (chosen.aws, chosen.aws_env) == ("local", {})


def test_what_is_given_replaces_its_part(memory: Memory) -> None:
    chosen = choose(memory, {"CSB_DATABASE_URL": THEIRS, "CSB_REDIS_URL": "redis://cache.example"})
    assert (chosen.database_url, chosen.redis_url) == (THEIRS, "redis://cache.example")

    real = choose(memory, {"CSB_AWS": "real", "AWS_PROFILE": "sandbox", "HOME": "/home/me"})
    assert (real.aws, real.aws_env) == ("real", {"AWS_PROFILE": "sandbox"})

    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    other = choose(memory, {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", **keys})
    assert (other.aws, other.aws_env["AWS_ENDPOINT_URL"]) == ("endpoint", "http://127.0.0.1:4566")


def test_the_local_identity_in_the_shell_is_nobodys_own(memory: Memory) -> None:
    ours = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "local"}
    assert choose(memory, {**ours}, **ours).aws == "local"

    real = choose(memory, {"CSB_AWS": "real", "AWS_PROFILE": "sandbox", **ours}, **ours)
    assert (real.aws, real.aws_env) == ("real", {"AWS_PROFILE": "sandbox"})

    theirs = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    choose(memory, {**theirs, **keys}, **ours)
    again = choose(memory, {**theirs, **keys}, **theirs)
    assert (again.aws, again.aws_env) == ("endpoint", {**theirs, **keys})


def test_our_own_values_from_the_shell_mean_as_before(memory: Memory) -> None:
    """Whoever has read csb.env into the shell has not brought a database."""
    choose(memory, {})
    again = choose(memory, {"CSB_DATABASE_URL": OURS}, CSB_DATABASE_URL=OURS)
    assert again.database_url is None

    choose(memory, {"CSB_DATABASE_URL": THEIRS}, CSB_DATABASE_URL=OURS)
    derived = THEIRS.replace("boss:secret", "csb_api_user:abc")
    kept = choose(memory, {"CSB_DATABASE_URL": derived}, CSB_DATABASE_URL=derived)
    assert kept.database_url == THEIRS
    assert choose(memory, {}, CSB_DATABASE_URL=derived).database_url is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CSB_DATABASE_URL": "mysql://x"}, "CSB_DATABASE_URL"),
        ({"CSB_REDIS_URL": "cache.example:6379"}, "CSB_REDIS_URL: must begin"),
        ({"CSB_ADMIN_DATABASE_URL": THEIRS}, "CSB_DATABASE_URL is missing"),
        ({"CSB_AWS": "yes"}, "CSB_AWS"),
        ({"CSB_AWS": "real", "AWS_ENDPOINT_URL": "http://x"}, "AWS_ENDPOINT_URL"),
        ({"CSB_AWS": "local", "AWS_ENDPOINT_URL": "http://x"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://x"}, "AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_choice_that_cannot_be_is_named(
    memory: Memory, environ: dict[str, str], named: str
) -> None:
    choose(memory, {"CSB_DATABASE_URL": THEIRS})
    with pytest.raises(ConfigurationError, match=named):
        choose(memory, environ)
    assert choose(memory, {"CSB_DATABASE_URL": OURS}, CSB_DATABASE_URL=OURS).database_url == THEIRS


def test_a_port_stays_until_somebody_else_has_it(memory: Memory, tmp_path: Path) -> None:
    first = choose_ports(memory, {}, running=frozenset())["api"]
    assert Memory(tmp_path / "memory.json").port("api", "CSB_PORT", {}, held=False) == first
    with socket.create_server((ports.HOST, first)):
        assert memory.port("api", "CSB_PORT", {}, held=True) == first
        assert memory.port("api", "CSB_PORT", {}, held=False) != first
        with pytest.raises(ConfigurationError, match=f"CSB_PORT={first}: something else"):
            memory.port("api", "CSB_PORT", {"CSB_PORT": str(first)}, held=False)


def test_two_programs_never_get_one_port(memory: Memory) -> None:
    one = ports.free_port()
    both = {"CSB_PORT": str(one), "CSB_METRICS_PORT": str(one)}
    with pytest.raises(ConfigurationError, match=f"CSB_METRICS_PORT={one}: another of our .*unset"):
        choose_ports(memory, both, running=frozenset())
    assert memory.get("port.api") is None

    memory.put("port.api-metrics", str(one))
    for environ in ({}, {"CSB_PORT": str(one)}, {"CSB_METRICS_PORT": str(one)}):
        chosen = choose_ports(memory, environ, running=frozenset())
        assert len(set(chosen.values())) == len(PORTS)
        assert {PORTS[name]: str(port) for name, port in chosen.items()}.items() >= environ.items()


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_a_port_must_be_one(memory: Memory, port: str) -> None:
    with pytest.raises(ConfigurationError, match="CSB_PORT"):
        memory.port("api", "CSB_PORT", {"CSB_PORT": port}, held=False)


def test_private_files_are_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "csb.env"
    private_file.write(path, "CSB_URL=http://127.0.0.1:1\nCSB_DATABASE_URL=a?b=c\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert parts.read_environment(path) == {
        "CSB_URL": "http://127.0.0.1:1",
        "CSB_DATABASE_URL": "a?b=c",
    }
    assert list(tmp_path.iterdir()) == [path]


def test_the_sandbox_has_our_packages_unless_others_are_named(tmp_path: Path) -> None:
    layout = Layout(root=tmp_path, run=tmp_path / "run")
    ports = dict.fromkeys(PORTS, 1)
    memory = Memory(tmp_path / "memory.json")

    def told(**environ: str) -> str | None:
        fleet = Fleet(layout=layout, parts=choose(memory, {}), ports=ports, environ=environ)
        return fleet.worker_sandbox("postgresql://x", "redis://x").env.get("CSB_SANDBOX_PACKAGES")

    assert told() is None  # a worker that is told of what is not there does not start
    layout.packages.mkdir(parents=True)
    assert told() == str(tmp_path / ".venv/sandbox-packages")
    assert told(CSB_SANDBOX_PACKAGES="/srv/packages") == "/srv/packages"
    assert told(CSB_SANDBOX_PACKAGES="") == ""


def test_a_program_gets_no_names_but_its_own(tmp_path: Path) -> None:
    """A developer's AWS credentials, above all, must not reach a worker."""
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    program = Program(
        name="show", argv=(sys.executable, "-c", show), port=1, env={"CSB_BIND": "127.0.0.1:1"}
    )
    programs.write(tmp_path / "programs.json", [program])
    assert programs.read(tmp_path / "programs.json") == {"show": program}

    shell = {"PATH": "/bin", "AWS_PROFILE": "production", "CSB_TOKEN": "x", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "csb_core.local.programs", "programs.json", "show"],
        env=shell,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout).items() >= {"CSB_BIND": "127.0.0.1:1", "PATH": "/bin"}.items()
    assert not {"AWS_PROFILE", "CSB_TOKEN"} & json.loads(done.stdout).keys()


def test_a_folder_that_cannot_be_written_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CSB_RUN_DIR", "/nowhere/run")
    monkeypatch.setattr(sys, "argv", ["csb_core.local", "down"])
    monkeypatch.setattr(Path, "mkdir", _full)
    assert main() == 1
    assert "[Errno 28] No space left on device: '/nowhere/run'" in capsys.readouterr().err


def _full(path: Path, **_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
