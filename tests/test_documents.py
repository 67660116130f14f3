"""Documents tell what is there: tables from the code, links that lead, commands that exist."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from pydantic_settings import BaseSettings
from tests.house import ROOT, files, make_targets, named, sources, text

from csb_core import metrics
from csb_core.contract import load as load_contract
from csb_core.ctl import main as csbctl

PAGES = [path for path in files(".md") if path.name != "LICENSE"]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _settings() -> Iterator[type[BaseSettings]]:
    """Every class of ours that reads the environment."""
    kinds = list(BaseSettings.__subclasses__())
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith(("csb_core", "api_service", "worker_")):
            yield kind


def test_the_tables_are_fresh(generator: ModuleType) -> None:
    assert generator.stale() == [], "run `make docs`"


def test_every_setting_is_documented(generator: ModuleType) -> None:
    page = text(ROOT / "docs" / "configuration.md")
    for kind in _settings():
        for variable, info in generator.variables(kind).items():
            assert f"`{variable}`" in page, f"docs/configuration.md lacks {variable}"
            assert info.description, f"{kind.__name__}: {variable} says nothing of itself"


def test_every_variable_that_code_reads_is_documented() -> None:
    page = text(ROOT / "docs" / "configuration.md")
    read = {
        name
        for path in files(".py")
        if "src" in path.parts and "local" not in path.parts
        for name in re.findall(r"""environ(?:\.get\(|\[)\s*["'](CSB_\w+)""", text(path))
    }
    assert {name for name in read if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{named(page)} links to {target}"


def _anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page; the second of a name has a number."""
    headings = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    counted = Counter(name.replace(" ", "-") for name in plain)
    return {f"{name}-{n}" if n else name for name, times in counted.items() for n in range(times)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text(page)):
        led = page.parent / target if target else page
        if "://" not in target and led.suffix == ".md":
            assert anchor in _anchors(led), f"{named(page)}: {target} has no #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_make_targets(page: Path) -> None:
    # A sentence may say "make a folder", so only code counts.
    code = re.findall(r"```sh\n(.*?)```", text(page), re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", text(page))
    said = {
        target
        for part in code
        for line in part.splitlines()
        if (command := re.match(r"\s*make((?: [a-z][a-z-]*)+)", line.split("#")[0]))
        for target in command[1].split()
    }
    assert said <= make_targets(), f"{named(page)}: no such targets: {said - make_targets()}"


def test_pre_commit_and_ci_call_make() -> None:
    for name in (".pre-commit-config.yaml", ".ci/run"):
        lines = (line for line in text(ROOT / name).splitlines() if "apt-get" not in line)
        said = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(lines)))
        assert said, f"{name} calls no target"
        assert said <= make_targets(), f"{name}: no such targets: {said - make_targets()}"


def _code_of(page: Path) -> str:
    """What a page shows as code, a command a line; what stands in Mermaid's drawings is none."""
    fences = re.findall(r"^ *```sh\n(.*?)^ *```", text(page), re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", text(page))
    return "\n".join([*fences, *spans]).replace("\\\n", " ")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_csbctl_is_shown_as_it_is(page: Path) -> None:
    # A call, wherever it stands in a line: behind kubectl's `--` or a pipe as well.
    for said in re.findall(r"(?<![-/\w])csbctl( [^#|&;\n`]+)", _code_of(page)):
        words = [word for word in said.split() if re.fullmatch(r"(--)?[a-z][a-z-]*", word)]
        command: click.Command = csbctl
        options: set[str] = set()
        for word in words:
            options |= {option for parameter in command.params for option in parameter.opts}
            if word.startswith("--"):
                assert word in options, f"{named(page)}: csbctl{said} has no {word}"
            elif isinstance(command, click.Group):
                below = command.commands.get(word)
                if below is None and command is csbctl and options & set(words):
                    continue  # the value of an option of csbctl itself
                assert below is not None, f"{named(page)}: csbctl{said}: there is no {word}"
                command = below


#: What names of ours in a page are told apart by: variables, metrics, tables, roles.
_OURS = re.compile(r"\b(?:CSB_[A-Z0-9_]*[A-Z0-9]|csb_[a-z0-9_]*[a-z0-9]|utils_[a-z]+_total)\b")


@pytest.fixture(scope="module")
def names_in_code(generator: ModuleType) -> set[str]:
    """Every such name in what is no page; settings, and metrics by all that they are read by."""
    read = (path for path in files() if path.suffix not in {".md", ".svg"})
    found = {name for path in read for name in _OURS.findall(text(path))}
    settings = {name for kind in _settings() for name in generator.variables(kind)}
    declared = {next(iter(metric.describe())).name for metric in metrics.declared()}
    suffixes = ("", "_total", "_bucket", "_count", "_sum")
    return found | settings | {f"{name}{suffix}" for name in declared for suffix in suffixes}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_names_of_ours_are_in_the_code(page: Path, names_in_code: set[str]) -> None:
    said = set(_OURS.findall(text(page)))
    assert said <= names_in_code, f"{named(page)} names what is not there"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, name in re.findall(r"`([\w./-]+\.py)::(\w+)`", text(page)):
        source = text(ROOT / path)
        assert re.search(rf"^(?:async )?def {name}\(", source, re.MULTILINE), (
            f"{path} has no {name}"
        )


def test_the_request_that_readme_posts_is_valid() -> None:
    posted = re.findall(r"-d '(\{.*?\})'$", text(ROOT / "README.md"), re.DOTALL | re.MULTILINE)
    assert posted, "README posts nothing"
    for body in posted:
        if "cloud_provider" not in body:
            assert json.loads(body), "a util"
            continue
        filled = re.sub(r"'\$CSB_DEMO_ACCOUNT'", "111122223333", body)
        filled = re.sub(r"'\$CSB_DEMO_USER'", "alice", filled)
        assert load_contract().check(json.loads(filled))


def _refused_words() -> set[str]:
    rows = re.findall(r"^\|.*\| ([^|]*) \|$", text(ROOT / "docs" / "glossary.md"), re.MULTILINE)
    cells = (cell for cell in rows if cell.strip() not in {"Never", "---", ""})
    return {word.strip() for cell in cells for word in cell.split(",")}


def test_one_word_per_thing() -> None:
    refused = _refused_words()
    assert {"job", "reaper"} <= refused
    words = re.compile(rf"(?<![/\w])({'|'.join(map(re.escape, refused))})s?\b", re.IGNORECASE)
    # What others call their things stands in the bench and where the glossary names it.
    elsewhere = (
        "bench/",
        "docs/glossary.md",
        "docs/bench.md",
        "tests/test_documents.py",
        "tests/images/",
        *(
            "helm/",
            "tests/deploy/",
            "tests/logs/",
            "docs/install.md",
            "docs/runbooks/",
        ),  # Kubernetes has jobs
        *("docs/architecture.md", "docs/upgrades.md", "docs/incidents.md", "docs/logs.md"),
        *("docs/delivery.md", "docs/disaster-recovery.md"),
        "docs/disaster-recovery.md",
    )
    # The sandbox knows no requests, so there a job is what a jail is given; tasks are the kernel's.
    sandbox, theirs = ("worker-sandbox/", "docs/sandbox.md", "docs/adr/0011"), {"job", "task"}
    wrong = {
        f"{named(path)}:{number}": found[0]
        for path in files(".py", ".sql", ".md", ".json")
        if not named(path).startswith(elsewhere)
        for number, line in enumerate(text(path).splitlines(), 1)
        if (found := words.search(line))
        and not (named(path).startswith(sandbox) and found[1].lower() in theirs)
    }
    assert not wrong, f"docs/glossary.md has another word for these: {wrong}"


def test_british_spelling() -> None:
    american = re.compile(r"\b(canceled|canceling|authorize[ds]?|serialize[ds]?|behavior|color)\b")
    wrong = [
        f"{named(path)}:{number}"
        for path in files(".md")
        for number, line in enumerate(text(path).splitlines(), 1)
        if american.search(line)
    ]
    assert not wrong


def test_decisions_are_numbered_and_listed() -> None:
    records = sorted(p for p in (ROOT / "docs" / "adr").glob("*.md") if p.name != "README.md")
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    listed = text(ROOT / "docs" / "adr" / "README.md")
    for path in records:
        title = text(path).splitlines()[0]
        assert title.startswith(f"# {path.name[:4]} ")
        assert path.name in listed, f"docs/adr/README.md lacks {path.name}"
        for part in ("**Status**", "**Context**", "**Decision**", "**Consequences**"):
            assert part in text(path), f"{path.name} has no {part}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs/runbooks").glob("*.md")), ids=named)
def test_a_runbook_serves_at_three_in_the_morning(page: Path) -> None:
    parts = re.findall(r"^\*\*([^*]+)\*\*", text(page), re.MULTILINE)
    wanted = ["What it says", "What callers see", "Look", "Do", "Over when"]
    assert [part for part in parts if part in wanted] == wanted
    looks = text(page).partition("**Look**")[2].partition("**Do**")[0]
    assert re.findall(r"^\d\. ", looks, re.MULTILINE)[:2] == ["1. ", "2. "]
    assert re.search(r"kubectl|csbctl|psql", looks), "nothing to type"
    assert f"runbooks/{page.name}" in text(ROOT / "docs/operations.md"), "operations.md lacks it"


def test_classes_of_errors_are_those_that_requests_end_with() -> None:
    table = text(ROOT / "docs/operations.md").partition("| `error.class` |")[2].partition("\n\n")[0]
    said = set(re.findall(r"`([A-Z_]{5,})`", table))
    code = "\n".join(text(path) for path in sources())
    assert said
    assert {name for name in said if f'"{name}"' not in code} == set()
