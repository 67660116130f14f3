"""The tiers of the sandbox as pods: what each asks of a cluster, and how it gets to the nodes."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from tests.deploy.charts import KUBERNETES, Manifest, containers, of_kind, pods, rendered, run
from tests.deploy.test_pods import faults, judged
from tests.house import ROOT

POD: Final = "Deployment/csecbridge-worker-sandbox"
SET: Final = "worker.workers.sandbox."
LANDLOCK: Final = ()
NAMESPACES: Final = (f"{SET}jails.tier=namespaces",)
APPARMOR: Final = (*NAMESPACES, f"{SET}jails.appArmorProfile=csb-sandbox")
GVISOR: Final = (f"{SET}runtimeClassName=gvisor",)
COMPONENT: Final = ROOT / "platform-config/components/sandbox-profile"
PROFILE: Final = ROOT / "helm/worker/files/seccomp/csb-sandbox.json"
APPARMOR_PROFILE: Final = ROOT / "helm/worker/files/apparmor/csb-sandbox"


def pod(values: tuple[str, ...], preset: str = "small") -> Manifest:
    """The sandbox worker's pod with these values."""
    return dict(pods(rendered(preset=preset, values=values)))[POD]


def settings(values: tuple[str, ...]) -> dict[str, str]:
    """What its ConfigMap tells the worker."""
    maps = of_kind(rendered(preset="small", values=values), "ConfigMap")
    (found,) = [m for m in maps if m["metadata"]["name"] == "csecbridge-worker-sandbox"]
    return dict(found["data"])


@pytest.mark.parametrize("values", [LANDLOCK, NAMESPACES, APPARMOR, GVISOR])
@pytest.mark.parametrize("preset", ["dev", "small", "ha"])
def test_every_tier_is_restricted(values: tuple[str, ...], preset: str) -> None:
    made = pod(values, preset)
    assert not list(faults(made))
    assert not judged(made)


@pytest.mark.parametrize("values", [LANDLOCK, NAMESPACES, APPARMOR, GVISOR])
def test_no_tier_is_privileged_or_has_a_capability(values: tuple[str, ...]) -> None:
    for container in containers(pod(values)):
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False
        assert not {"privileged", "procMount"} & security.keys()


def test_landlock_asks_for_nothing_but_a_place_to_write() -> None:
    spec = pod(LANDLOCK)["spec"]
    assert "hostUsers" not in spec
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    told = settings(LANDLOCK)
    assert (told["CSB_SANDBOX_TIER"], told["CSB_SANDBOX_FLOOR"]) == ("landlock", "landlock")
    mounted = {m["mountPath"]: m["name"] for m in spec["containers"][0]["volumeMounts"]}
    (volume,) = [v for v in spec["volumes"] if v["name"] == mounted[told["CSB_SANDBOX_SCRATCH"]]]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}  # four slots of 16


def test_namespaces_asks_for_users_and_profiles_of_its_own() -> None:
    spec = pod(APPARMOR)["spec"]
    assert spec["hostUsers"] is False
    assert spec["securityContext"]["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": "profiles/csb-sandbox.json",
    }
    assert spec["securityContext"]["appArmorProfile"] == {
        "type": "Localhost",
        "localhostProfile": "csb-sandbox",
    }
    told = settings(NAMESPACES)
    # Where a node lacks the profile the worker says so in /ready, and takes no work.
    assert (told["CSB_SANDBOX_TIER"], told["CSB_SANDBOX_FLOOR"]) == ("namespaces", "namespaces")
    assert "CSB_SANDBOX_SCRATCH" not in told
    assert "jails" not in {volume["name"] for volume in spec["volumes"]}


def test_gvisor_surrounds_either() -> None:
    assert pod(GVISOR)["spec"]["runtimeClassName"] == "gvisor"
    assert pod((*GVISOR, *NAMESPACES))["spec"]["hostUsers"] is False


def test_an_unmasked_proc_would_cost_the_level() -> None:
    """Other sandboxes ask for it, to mount a /proc; a jail of ours has none."""
    unmasked = deepcopy(pod(NAMESPACES))
    unmasked["spec"]["containers"][0]["securityContext"]["procMount"] = "Unmasked"
    assert "procMount" in judged(unmasked)


def test_the_profile_is_what_its_program_writes() -> None:
    run(sys.executable, str(ROOT / "helm/sandbox_profile.py"), "--check")


def test_the_profile_allows_what_makes_jails_and_nothing_notorious() -> None:
    profile = json.loads(PROFILE.read_text())
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    plain = {name for one in profile["syscalls"] if "args" not in one for name in one["names"]}
    jails = {"unshare", "clone", "mount", "umount2", "pivot_root", "seccomp", "capset"}
    assert jails | {"landlock_restrict_self", "close_range", "prctl"} <= plain
    families = {
        one["args"][0]["value"] for one in profile["syscalls"] if one["names"][0] == "socket"
    }
    assert families == {1, 2, 10, 16}
    notorious = {
        *("bpf", "ptrace", "keyctl", "add_key", "request_key", "perf_event_open", "userfaultfd"),
        *("io_uring_setup", "init_module", "finit_module", "kexec_load", "reboot", "setns"),
        *("open_by_handle_at", "process_vm_readv", "process_vm_writev", "swapon", "clone3"),
        *("move_mount", "fsopen", "mount_setattr", "open_tree", "socket", "iopl", "acct"),
    }
    assert not notorious & plain


def test_libseccomp_knows_every_call_that_it_names() -> None:
    """A name that is misspelt would be refused by the runtime, or be left out in silence."""
    library = ctypes.CDLL("libseccomp.so.2")
    profile = json.loads(PROFILE.read_text())
    unknown = {
        name
        for one in profile["syscalls"]
        for name in one["names"]
        if library.seccomp_syscall_resolve_name(name.encode()) == -1
    }
    assert unknown <= {"fchmodat2"}, "newer than the oldest libseccomp that we meet"


def test_the_profile_of_apparmor_is_one() -> None:
    text = APPARMOR_PROFILE.read_text()
    assert "profile csb-sandbox " in text
    for rule in ("mount fstype=tmpfs,", "pivot_root,", "umount,", "capability sys_admin,"):
        assert f"\n  {rule}" in text, rule
    assert "deny mount" not in text.replace("`deny mount`", "")
    run("apparmor_parser", "--skip-kernel-load", "--skip-cache", "--quiet", str(APPARMOR_PROFILE))


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, ...]:
    """What the component adds to an overlay."""
    place = tmp_path_factory.mktemp("config")
    shutil.copytree(ROOT / "platform-config", place / "platform-config")
    overlay = place / "platform-config/overlays/dev/kustomization.yaml"
    overlay.write_text(overlay.read_text() + "components: [../../components/sandbox-profile]\n")
    made = tuple(yaml.safe_load_all(run("kustomize", "build", str(overlay.parent))))
    return tuple(m for m in made if "csb-nodes" in str(m["metadata"]))


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_the_installer_is_valid(component: tuple[Manifest, ...], kubernetes: str) -> None:
    kinds = sorted(manifest["kind"] for manifest in component)
    assert kinds == ["ConfigMap", "DaemonSet", "Namespace", "NetworkPolicy"]
    for manifest in component:
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_the_installer_reaches_one_folder_of_the_node(component: tuple[Manifest, ...]) -> None:
    (daemons,) = of_kind(component, "DaemonSet")
    spec = daemons["spec"]["template"]["spec"]
    paths = [v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v]
    assert paths == ["/var/lib/kubelet/seccomp"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    # All but the folder and root is "restricted", and the evaluator names no more.
    one = {"metadata": {}, "spec": deepcopy(spec)}
    one["spec"]["volumes"] = [v for v in spec["volumes"] if "hostPath" not in v]
    assert "root" in judged(one).lower()
    one["spec"]["securityContext"] |= {"runAsUser": 10001, "runAsNonRoot": True}
    assert not judged(one)


def test_where_it_installs_is_where_the_chart_looks(component: tuple[Manifest, ...]) -> None:
    (daemons,) = of_kind(component, "DaemonSet")
    (config,) = of_kind(component, "ConfigMap")
    spec = daemons["spec"]["template"]["spec"]
    *_, profile, folder = spec["containers"][0]["command"]
    mounts = {m["mountPath"]: m["name"] for m in spec["containers"][0]["volumeMounts"]}
    assert mounts["/seccomp"] == "seccomp"
    wanted = pod(NAMESPACES)["spec"]["securityContext"]["seccompProfile"]["localhostProfile"]
    assert f"{folder.removeprefix('/seccomp/')}/{Path(profile).name}" == wanted
    assert config["data"][Path(profile).name] == PROFILE.read_text()
    names = {v.get("configMap", {}).get("name") for v in spec["volumes"]}
    assert config["metadata"]["name"] in names, "a change of the profile starts new pods"


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", COMPONENT / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_installs_once_and_mends_what_is_different(installer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "seccomp" / "profiles"
    target = folder / PROFILE.name
    assert installer.install(PROFILE, folder)
    assert target.read_text() == PROFILE.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
    assert not installer.install(PROFILE, folder)
    target.write_text("{}")
    assert installer.install(PROFILE, folder)
    assert [path.name for path in folder.iterdir()] == [PROFILE.name]


def test_it_stays_until_it_is_told_to_end(tmp_path: Path) -> None:
    program = [sys.executable, "-I", "-S", str(COMPONENT / "install.py"), str(PROFILE)]
    with subprocess.Popen([*program, str(tmp_path / "profiles")]) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "profiles" / PROFILE.name).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 0


def test_it_fails_when_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "profiles").touch()
    program = [sys.executable, "-I", "-S", str(COMPONENT / "install.py"), str(PROFILE)]
    ran = subprocess.run([*program, str(tmp_path / "profiles")], check=False, timeout=20)
    assert ran.returncode != 0
