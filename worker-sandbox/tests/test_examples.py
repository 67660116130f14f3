"""The example utils do what they say; here as plain Python, cheaply and in many cases."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import time
import zlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from csb_core.contract import load
from csb_core.lint import Declared, validate
from csb_core.local import examples
from csb_core.models import Json
from csb_core.testing import ROOT
from csb_core.value_schema import compiled
from worker_sandbox.likeness import difference

ENTRY_POINTS = {"transformer": "transform", "script": "main"}
BODIES: dict[str, Json] = {body["name"]: body for body in examples.read(ROOT)}
CASES = [(name, case) for name, body in BODIES.items() for case in body["test_cases"]]


@cache
def module(name: str) -> ModuleType:
    path = ROOT / examples.FOLDER / name / "code.py"
    spec = importlib.util.spec_from_file_location(f"csb_example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def entry(name: str) -> Callable[[Any], Any]:
    called: Callable[[Any], Any] = getattr(module(name), ENTRY_POINTS[BODIES[name]["kind"]])
    return called


def run(name: str, given: Any) -> Any:
    """What the example gives, held against its own schemas, as JSON carries it."""
    parameters = BODIES[name]["parameters"]
    assert compiled(parameters["input_schema"]).faults(given) == []
    value = json.loads(json.dumps(entry(name)(json.loads(json.dumps(given))), allow_nan=False))
    assert compiled(parameters["output_schema"]).faults(value) == []
    return value


def test_there_are_ten() -> None:
    assert len(BODIES) == 10
    for name, body in BODIES.items():
        assert len(body["test_cases"]) >= 4, name
        assert body["description"], name
        assert (ROOT / examples.FOLDER / name).is_dir()
    page = (ROOT / examples.FOLDER / "README.md").read_text()
    assert [name for name in BODIES if f"[`{name}`]({name}/code.py)" not in page] == []


@pytest.mark.parametrize("body", BODIES.values(), ids=lambda body: str(body["name"]))
def test_the_validator_likes_it(body: Json) -> None:
    parameters = body["parameters"]
    validation = validate(
        body["code"],
        kind=body["kind"],
        declared=Declared(
            description=body["description"],
            owner="somebody",
            input_schema=parameters["input_schema"],
            output_schema=parameters["output_schema"],
            limits=body["execution_config"],
        ),
        allowed_packages={},
        history=None,
    )
    assert validation.is_valid
    assert validation.security_score >= 90
    assert [one for one in validation.validation_errors if one.severity != "info"] == []


@pytest.mark.parametrize("body", BODIES.values(), ids=lambda body: str(body["name"]))
def test_the_contract_takes_it(body: Json) -> None:
    assert load().check_shape("CreateUtilRequest", body) == body


@pytest.mark.parametrize(("name", "case"), CASES, ids=lambda one: str(one)[:40])
def test_its_own_cases(name: str, case: Json) -> None:
    assert difference(case["expected"], run(name, case["input"])) is None


def found(text: str, **more: Any) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {}
    for ioc in run("ioc_extract", {"text": text, "defang": False, **more})["iocs"]:
        by_type.setdefault(ioc["type"], []).append(ioc["value"])
    return by_type


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("(see http://a.example/x_(y).)", {"url": ["http://a.example/x_(y)"]}),
        ("http://user:pw@b.example:8080/p?q#f", {"url": ["http://user:pw@b.example:8080/p?q#f"]}),
        ("http://[2001:db8::2]:443/", {"ipv6": ["2001:db8::2"]}),
        ("http://192.0.2.1/x", {"ipv4": ["192.0.2.1"]}),
        ("ip 192.0.2.1.", {"ipv4": ["192.0.2.1"]}),
        ("ip=192.0.2.1:443,", {"ipv4": ["192.0.2.1"]}),
        ("256.1.1.1 01.2.3.4 1.2.3 v1.2.3.4", {}),
        (":: std::map ::1 2001:db8::1:", {"ipv6": ["::1", "2001:db8::1"]}),
        ("12:34:56 de:ad:be:ef:00:01", {}),
        ("Bob.O-Neil+x@Mail.Example", {"email": ["bob.o-neil+x@mail.example"]}),
        ("a@b @c.example", {}),
        ("cve-2021-44228 CVE-21-1", {"cve": ["CVE-2021-44228"]}),
        ("report.pdf run.exe evil.example", {"domain": ["evil.example"]}),
        ("obj.method() x.y=1", {}),
        ("0123456789abcdef" * 2 + "0", {}),
        ("arn:aws:iam::111122223333:role/x, ok", {"arn": ["arn:aws:iam::111122223333:role/x"]}),
        ("1.2.3[.]4 a[.]example b[dot]example", {"domain": ["a.example", "b.example"]}),
        ("почта.рф и 例え.テスト", {"domain": ["почта.рф", "例え.テスト"]}),
    ],
)
def test_indicators(text: str, expected: dict[str, list[str]]) -> None:
    # A host inside a URL or an address is told as well; the cases name what matters in each.
    got = found(text)
    assert {kind: values for kind, values in got.items() if kind in expected} == expected
    if not expected:
        assert got == {}


def test_indicators_of_some_types_only() -> None:
    assert found("http://a.example 192.0.2.1", types=["ipv4"]) == {"ipv4": ["192.0.2.1"]}


def test_indicators_of_a_large_text_take_no_time() -> None:
    began = time.process_time()
    for hostile in ("a" * 250_000, "a." * 120_000, "1:" * 120_000, "h[" * 100_000, "@a" * 90_000):
        found(hostile)
    found(" ".join(f"host{n}.example 10.{n % 256}.0.1" for n in range(8000)))
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "text",
    [
        "plain words, a v1.2 and 12:30",
        "http://a.example/x.html?y=b.example#z and HTTPS://B.EXAMPLE and ftp://c.example",
        "mail bob@corp.example, then 10.0.0.1 and 2001:db8::1.",
        "[a.example](http://a.example) url=b.example C:\\files\\x.dll",
        "münchen.example 例え.テスト",
    ],
)
def test_defanging_is_undone_and_the_same_twice(text: str) -> None:
    once = run("defang", {"text": text})["text"]
    assert "http://" not in once
    assert run("defang", {"text": once})["text"] == once
    assert run("defang", {"text": once, "mode": "refang"})["text"] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", "a[.]example"),
        ("(a.example)", "(a[.]example)"),
        ("x.method()", "x.method()"),
        ("10.0.0.1/8", "10[.]0[.]0[.]1/8"),
        ("ends with 2001:db8::1.", "ends with 2001[:]db8[:][:]1."),
        ("://", "://"),
    ],
)
def test_defanging(text: str, expected: str) -> None:
    assert run("defang", {"text": text})["text"] == expected


def test_networks() -> None:
    value = run(
        "cidr_match",
        {
            "addresses": [" 10.0.0.1 ", "[2001:db8::1]", "fe80::1", "0.0.0.0", "010.0.0.1"],
            "networks": ["0.0.0.0/0", "10.0.0.0/8", {"cidr": "10.0.0.1", "label": "host"}, "::/0"],
        },
    )
    by_address = {match["address"].strip(): match for match in value["matches"]}
    assert [n["cidr"] for n in by_address["10.0.0.1"]["networks"]] == [
        "10.0.0.1/32",
        "10.0.0.0/8",
        "0.0.0.0/0",
    ]
    assert by_address["10.0.0.1"]["networks"][0]["label"] == "host"
    assert by_address["fe80::1"]["scope"] == "link_local"
    assert by_address["0.0.0.0"]["scope"] == "unspecified"
    assert [one["value"] for one in value["invalid"]] == ["010.0.0.1"]


def test_many_networks_are_looked_up_and_not_walked() -> None:
    addresses = [f"10.{n % 256}.{n // 256 % 256}.1" for n in range(10_000)]
    networks = [f"10.{n % 256}.{n // 256}.0/24" for n in range(1000)]
    began = time.process_time()
    value = run("cidr_match", {"addresses": addresses, "networks": networks})
    assert time.process_time() - began < 3
    assert len(value["matches"]) + len(value["unmatched"]) == 10_000


def event(**fields: Any) -> Json:
    record = {"eventName": "RunInstances", "eventSource": "ec2.amazonaws.com", **fields}
    (one,) = run("cloudtrail_normalise", record)["events"]
    shaped: Json = one
    return shaped


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"readOnly": "true"}, ("reads_only",), True),
        ({"eventName": "DescribeInstances"}, ("reads_only",), True),
        ({}, ("reads_only",), False),
        ({"errorCode": "Client.UnauthorizedOperation"}, ("outcome", "status"), "denied"),
        ({"errorCode": "ThrottlingException"}, ("outcome", "status"), "failure"),
        ({"userIdentity": None}, ("actor", "type"), "Unknown"),
        (
            {"userIdentity": {"type": "AWSService", "invokedBy": "config.amazonaws.com"}},
            ("actor", "name"),
            "config.amazonaws.com",
        ),
        ({"requestParameters": "HIDDEN"}, ("target",), None),
        ({"requestParameters": {"instanceId": "i-1"}}, ("target",), "i-1"),
        ({"sourceIPAddress": "AWS Internal"}, ("source", "ip"), None),
        ({"resources": None}, ("resources",), []),
    ],
)
def test_cloudtrail(fields: Json, path: tuple[str, ...], expected: Any) -> None:
    value: Any = event(**fields)
    for name in path:
        value = value[name]
    assert value == expected


@pytest.mark.parametrize(
    ("score", "label"),
    [(0, "informational"), (1, "low"), (3.9, "low"), (4, "medium"), (7, "high"), (9, "critical")],
)
def test_guardduty_severities(score: float, label: str) -> None:
    finding = {"type": "Recon:EC2/Portscan", "severity": score}
    (one,) = run("guardduty_normalise", [finding])["findings"]
    assert one["severity"]["label"] == label
    assert one["remote"] == {
        "kind": None,
        "addresses": [],
        "countries": [],
        "domain": None,
        "api": None,
    }


def test_guardduty_type_of_no_known_form() -> None:
    (one,) = run("guardduty_normalise", {"type": "Strange", "severity": 5})["findings"]
    assert one["type"]["name"] == "Strange"
    assert one["type"]["purpose"] is None


def parsed(text: str, **more: Any) -> Json:
    value: Json = run("parse_records", {"text": text, **more})
    return value


@pytest.mark.parametrize(
    ("text", "kind", "records"),
    [
        ("", "csv", 0),
        ("a,b\n1,2\n\n3,4\n", "csv", 2),
        ("a|b\n1|2", "csv", 1),
        ('{"a": 1}', "json", 1),
        ("[1, 2, 3]", "json", 3),
        ('{"a": 1}\n{"a": 2}', "jsonl", 2),
        ("<13>Feb  5 17:32:18 10.0.0.99 app: hi", "syslog", 1),
        ("Feb  5 17:32:18 host sshd[1]: x", "syslog", 1),
        ("<14>1 - - - - - -", "syslog", 1),
    ],
)
def test_what_a_text_is(text: str, kind: str, records: int) -> None:
    value = parsed(text)
    assert (value["format"], len(value["records"]), value["errors"]) == (kind, records, [])


def test_what_cannot_be_parsed_is_told_with_its_line() -> None:
    assert parsed('a,b\n"x', format="csv")["errors"][0]["line"] >= 2
    assert parsed("<999>1 - - - - - -\nnothing", format="syslog")["errors"] == [
        {"line": 1, "reason": "neither RFC 5424 nor RFC 3164"},
        {"line": 2, "reason": "neither RFC 5424 nor RFC 3164"},
    ]
    assert parsed("{", format="json")["errors"][0]["line"] == 1


def test_hostile_syslog_takes_no_time() -> None:
    began = time.process_time()
    parsed("<1>1 a b c d e " + "[" * 100_000, format="syslog")
    parsed("<1>1 a b c d e [x " + 'y="\\"' * 40_000, format="syslog")
    parsed("\n".join(["<1>1 a b c d e [x y=" + '"' * 100] * 2000), format="syslog")
    assert time.process_time() - began < 5


def policies(before: Any, after: Any) -> Json:
    value: Json = run(
        "policy_diff", {"before": {"Statement": before}, "after": {"Statement": after}}
    )
    return value


ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::a/*"}


@pytest.mark.parametrize(
    ("before", "after", "rules"),
    [
        ([], [{**ALLOW, "Action": "*", "Resource": "*"}], ["all-actions"]),
        ([], [{**ALLOW, "Action": "iam:*"}], ["service-wildcard", "escalation"]),
        ([], [{**ALLOW, "Principal": {"AWS": "*"}}], ["public"]),
        (
            [],
            [{**ALLOW, "Principal": "*", "Condition": {"StringEquals": {"aws:SourceVpc": "v"}}}],
            [],
        ),
        ([], [{"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::a"}],
         ["not-resource", "service-wildcard"]),
        ([], [{**ALLOW, "Effect": "Deny"}], []),
        ([{**ALLOW, "Effect": "Deny"}], [], ["deny-removed"]),
        ([ALLOW], [], []),
    ],
)  # fmt: skip
def test_what_a_policy_gives_away(before: Any, after: Any, rules: list[str]) -> None:
    assert [one["rule"] for one in policies(before, after)["findings"]] == rules


def test_policies_that_mean_the_same() -> None:
    split = [{**ALLOW, "Sid": "a"}, {**ALLOW, "Action": ["S3:PutObject"]}]
    joined = {**ALLOW, "Action": ["s3:putobject", "s3:GetObject"]}
    assert policies(split, joined)["equal"]
    assert policies(None, [])["equal"]


def test_a_policy_without_end_is_refused() -> None:
    huge = {**ALLOW, "Action": [f"a:{n}" for n in range(300)], "Resource": list("x" * 300)}
    with pytest.raises(ValueError, match="more than"):
        entry("policy_diff")({"before": {}, "after": {"Statement": huge}})


def unpacked(data: bytes | str, **more: Any) -> Json:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    value: Json = run("unpack", {"data": text, **more})
    return value


def test_unpacking() -> None:
    assert unpacked(zlib.compress(b"hello hello hello"))["layers"] == ["base64", "zlib"]
    two_members = gzip.compress(b"one ") + gzip.compress(b"two")
    assert unpacked(two_members)["text"] == "one two"
    damaged = gzip.compress(bytes(range(256)) * 100)[:-20]
    assert unpacked(damaged)["layers"] == ["base64", "gzip"]
    lines = "\n".join([base64.b64encode(b"x" * 45).decode()] * 2)
    assert unpacked(lines)["layers"] == ["base64"]
    assert unpacked("")["bytes"] == 0
    assert unpacked("x^2 + y^2 = z^2 is no zlib")["layers"] == []
    assert unpacked(b"\x00\xff" * 20)["encoding"] == "binary"


def test_unpacking_is_bounded() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    began = time.process_time()
    value = unpacked(bomb, max_bytes=1000)
    assert time.process_time() - began < 2
    assert value["bytes"] <= 1000
    nested = "x" * 20
    for _ in range(12):
        nested = base64.b64encode(nested.encode()).decode()
    assert len(unpacked(nested, max_layers=3)["layers"]) == 3


def test_a_cut_never_splits_a_character() -> None:
    for size in range(1, 12):
        value = unpacked(gzip.compress("aé€𝄞".encode() * 4), max_bytes=size)
        assert value["encoding"] == "utf-8"
        assert value["truncated"]


@pytest.mark.parametrize(
    ("given", "score", "label"),
    [
        ({"severity": "INFO"}, 0, "informational"),
        ({"severity": 10}, 100, "critical"),
        ({"severity": 11}, 11, "low"),
        ({"severity": 0.5, "scale": "cvss"}, 5, "informational"),
        ({"severity": 70, "scale": "security_hub"}, 70, "high"),
        ({"severity": "low", "context": {"mitigated": True}}, 0, "informational"),
        ({"severity": "high", "context": {"production": True}, "weights": {"production": 0}}, 75,
         "high"),
    ],
)  # fmt: skip
def test_scores(given: Json, score: float, label: str) -> None:
    value = run("severity_score", given)
    assert (value["score"], value["label"]) == (score, label)
    assert round(sum(reason["points"] for reason in value["reasons"]), 1) == score


@pytest.mark.parametrize("severity", ["dreadful", -1, 101])
def test_no_score(severity: Any) -> None:
    with pytest.raises(ValueError, match="severity"):
        entry("severity_score")({"severity": severity})


def merged(findings: list[Json], **more: Any) -> list[int]:
    value = run("deduplicate", {"findings": findings, "keys": ["k"], **more})
    return [group["count"] for group in value["findings"]]


def test_merging() -> None:
    assert merged([]) == []
    assert merged([{"k": 1}, {"k": "1"}, {"k": True}, {"k": 1.0}]) == [2, 1, 1]
    assert merged([{"k": {"b": 1, "a": 2}}, {"k": {"a": 2, "b": 1}}]) == [2]
    assert merged([{"k": "ﬁle"}, {"k": "FILE"}]) == [2]
    times = [{"k": 1, "time": t} for t in ("2026-01-01T00:00:00", "2026-01-01T01:00:00+01:00")]
    assert merged(times, window_seconds=0) == [2]
    odd = [{"k": 1, "time": t} for t in (1e300, "never", None, True, 1_700_000_000_000)]
    assert merged(odd) == [5]


def test_merging_keeps_the_first_seen() -> None:
    findings = [{"k": 1, "n": n, "time": 100 - n} for n in range(3)]
    (group,) = run("deduplicate", {"findings": findings, "keys": ["k"]})["findings"]
    assert group["finding"]["n"] == 2
    assert group["first_seen"] == "1970-01-01T00:01:38Z"
