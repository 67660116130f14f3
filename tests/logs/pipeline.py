"""The shipped pipeline without its Fluentd: files of container lines in, documents out.

Reads the chart's fluent.conf and follows it. A plugin or a setting that is not known here fails, so
that nothing there changes without this model. What makes a document is the chart's own Ruby.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.house import ROOT
from tests.logs.fluentd import Section, read

FILES: Final = ROOT / "helm/observability/files/fluentd"
GOLDEN: Final = ROOT / "tests/logs/golden"
MAKER: Final = ROOT / "tests/logs/documents.rb"
NO_TIME: Final = "2026-03-01T08:00:07.000Z"

#: What the DaemonSet sets.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "CSB_LOGS_NAMESPACE": "csb-app",
    "CSB_LOGS_ENVIRONMENT": "production",
    "CSB_LOGS_ELASTICSEARCH": "https://elasticsearch.example:9200",
    "CSB_LOGS_USER": "csb_logs",
    "CSB_LOGS_PASSWORD": "only-for-tests",
    "CSB_LOGS_BUFFER": "2048m",
    "K8S_NODE_NAME": "node-1",
}

_TAG: Final = re.compile(
    r"var\.log\.containers\."
    r"(?P<pod_name>[^_]+)_(?P<namespace_name>[^_]+)_(?P<container_name>.+)-[a-z0-9]{64}\.log$"
)

#: Pod name -> what the cluster knows of it, as the metadata filter writes it.
Pods = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A record under way; its texts are one character a byte, for Fluentd knows no encoding yet."""

    tag: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A document, and where Elasticsearch is asked to put it."""

    index: str
    id: str
    document: Mapping[str, Any]


def shipped() -> str:
    """The chart's configuration."""
    return (FILES / "fluent.conf").read_text(encoding="utf-8")


def stored(files: Mapping[str, bytes], pods: Pods) -> list[Stored]:
    """Return what becomes of these files, named by their paths on the node, and in their order."""
    config = read(shipped(), ENVIRONMENT)
    (source,) = (section for section in config.all("source") if section.kind == "tail")
    events = _tail(source, files)
    label = config.one("label", source.said["@label"])
    while True:
        for section in label.all("filter"):
            if section.argument != "kubernetes.**":
                raise ValueError(f"a pattern that is not known here: {section.argument}")
            events = FILTERS[section.kind](section, events, pods)
        match = label.one("match", "kubernetes.**")
        if match.kind != "relabel":
            return [_placed(match, event.record) for event in events]
        late = [s.said["timeout_label"] for s in label.all("filter") if s.kind == "concat"]
        if not set(late) <= {match.said["@label"]}:
            raise ValueError("what comes late goes another way than the rest")
        label = config.one("label", match.said["@label"])


def _known(section: Section, **wanted: str) -> None:
    """Raise ValueError when a section says anything but this; "*" is for any value."""
    said = section.settings()
    differs = {n for n in said.keys() | wanted if wanted.get(n) not in {"*", said.get(n)}}
    if differs:
        raise ValueError(f"{section.kind}: not known here: {sorted(differs)}")


def _tail(section: Section, files: Mapping[str, bytes]) -> list[Event]:
    _known(
        section,
        tag="kubernetes.*",
        path="*",
        pos_file="*",
        read_from_head="true",
        follow_inodes="true",
        refresh_interval="*",
        emit_unmatched_lines="true",
    )
    parser = section.one("parse")
    _known(parser, expression="*", time_format="%Y-%m-%dT%H:%M:%S.%N%z", keep_time_key="true")
    if parser.kind != "regexp":
        raise ValueError("the parser is not known here")
    expression = parser.said["expression"].removeprefix("/").removesuffix("/")
    line_of = re.compile(expression.replace("(?<", "(?P<").replace(r"\z", r"\Z"), re.ASCII)
    events = []
    for path, content in files.items():
        if not fnmatch.fnmatchcase(path, section.said["path"]):
            continue
        tag = section.said["tag"].replace("*", path.strip("/").replace("/", "."))
        *lines, _unfinished = content.decode("latin-1").split("\n")
        for line in lines:
            found = line_of.match(line)
            record = dict(found.groupdict()) if found else {"unmatched_line": line}
            events.append(Event(tag=tag, record=record))
    return events


def _transformed(section: Section, events: Iterable[Event], _pods: Pods) -> list[Event]:
    _known(section)
    copies = {
        name: re.fullmatch(r'\$\{record\["(\w+)"\]\}', value)
        for name, value in section.one("record").said.items()
    }
    if None in copies.values():
        raise ValueError("record_transformer: only ${record[...]} is known here")
    return [
        Event(
            tag=event.tag,
            record={
                **event.record,
                **{n: event.record.get(c[1]) for n, c in copies.items() if c is not None},
            },
        )
        for event in events
    ]


def _joined(section: Section, events: Iterable[Event], _pods: Pods) -> list[Event]:
    _known(
        section,
        key="message",
        separator="",
        use_partial_cri_logtag="true",
        partial_cri_logtag_key="logtag",
        partial_cri_stream_key="stream",
        stream_identity_key="stream",
        flush_interval="*",
        timeout_label="*",
    )
    waiting: dict[tuple[str, str], list[Event]] = {}
    whole: list[Event] = []
    for event in events:
        if "message" not in event.record:
            whole.append(event)
            continue
        parts = waiting.setdefault((event.tag, event.record["stream"]), [])
        parts.append(event)
        if event.record["logtag"] == "F":
            whole.append(_one_of(parts))
            parts.clear()
    return whole + [_one_of(parts) for parts in waiting.values() if parts]


def _one_of(parts: list[Event]) -> Event:
    """The first part with the text of all."""
    text = "".join(part.record["message"] for part in parts)
    kept = {n: v for n, v in parts[0].record.items() if n not in {"stream", "logtag"}}
    return Event(tag=parts[0].tag, record={**kept, "message": text})


def _with_pods(section: Section, events: Iterable[Event], pods: Pods) -> list[Event]:
    _known(
        section,
        watch="false",
        skip_container_metadata="false",
        skip_namespace_metadata="true",
        skip_namespace_labels="true",
        skip_master_url="true",
    )
    known = []
    for event in events:
        named = _TAG.search(event.tag)
        if named is None:
            raise ValueError(f"a file that no kubelet writes: {event.tag}")
        about = {**named.groupdict(), **pods.get(named["pod_name"], {})}
        known.append(Event(tag=event.tag, record={**event.record, "kubernetes": about}))
    return known


def _documents(section: Section, events: Iterable[Event], _pods: Pods) -> list[Event]:
    _known(section, environment="*", node="*")
    lines = [json.dumps([event.tag, event.record]) for event in events]
    made = subprocess.run(
        ["ruby", str(MAKER), section.said["environment"], section.said["node"]],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    if made.returncode != 0:
        raise RuntimeError(made.stderr)
    documents = [json.loads(line) for line in made.stdout.splitlines()]
    return [Event(tag=e.tag, record=d) for e, d in zip(events, documents, strict=True)]


def _placed(match: Section, document: Mapping[str, Any]) -> Stored:
    """What the output plugin makes of a document."""
    said = match.said
    if (match.kind, said["write_operation"]) != ("elasticsearch", "create"):
        raise ValueError("only Elasticsearch is known here, and making")
    dataset = document["data_stream"]["dataset"]
    index = said["index_name"].replace("${$.data_stream.dataset}", dataset)
    if "$" in index or "$.data_stream.dataset" not in match.one("buffer").argument:
        raise ValueError("the name of the index is not known here")
    if said["id_key"] != "$.event.id" or said.keys() & {"remove_keys", "pipeline"}:
        raise ValueError("the document's id is not known here")
    return Stored(index=index, id=document["event"]["id"], document=document)


FILTERS: Final[Mapping[str, Callable[[Section, list[Event], Pods], list[Event]]]] = {
    "record_transformer": _transformed,
    "concat": _joined,
    "kubernetes_metadata": _with_pods,
    "csecbridge_document": _documents,
}


def pods() -> Pods:
    """What the cluster of the golden files knows of its pods."""
    known: Pods = json.loads((GOLDEN / "pods.json").read_text(encoding="utf-8"))
    return known


def golden_files() -> dict[str, bytes]:
    """The golden lines, by their paths on the node."""
    return {
        f"/var/log/containers/{path.name}": path.read_bytes()
        for path in sorted((GOLDEN / "lines").iterdir())
    }


def as_lines(found: Iterable[Stored]) -> list[str]:
    """One line a document, as documents.ndjson has them.

    What names no time has that at which it was read; here it is always the same.
    """
    lines = []
    for one in found:
        untimed = {} if "created" in one.document["event"] else {"@timestamp": NO_TIME}
        said = {"index": one.index, "id": one.id, "document": {**one.document, **untimed}}
        lines.append(json.dumps(said, sort_keys=True, ensure_ascii=False))
    return lines


def main() -> None:
    """Write what is expected anew; whoever does so reads the difference."""
    expected = as_lines(stored(golden_files(), pods()))
    (GOLDEN / "documents.ndjson").write_text("\n".join(expected) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
