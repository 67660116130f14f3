"""The charts render, on every version of Kubernetes, into what that version accepts."""

from __future__ import annotations

import re
from itertools import product

import pytest
from tests.deploy import schemas
from tests.deploy.charts import (
    HELM,
    KUBERNETES,
    LOGS,
    PRESETS,
    SITE,
    SUBCHARTS,
    WAYS,
    NotRendered,
    containers,
    named,
    pods,
    rendered,
    run,
    told,
)
from tests.house import ROOT, text

from csb_core import config


@pytest.mark.parametrize("preset", PRESETS)
def test_lint_finds_nothing(preset: str) -> None:
    values = [part for value in SITE[preset] for part in ("--set", value)]
    run(
        *("helm", "lint", "--strict", str(HELM / "csecbridge")),
        *("--values", str(HELM / "csecbridge" / "presets" / f"{preset}.yaml"), *values),
    )


@pytest.mark.parametrize("chart", SUBCHARTS)
def test_lint_finds_nothing_in_a_subchart(chart: str) -> None:
    run("helm", "lint", "--strict", str(HELM / chart))


@pytest.mark.parametrize(("way", "kubernetes"), [*product(WAYS, KUBERNETES)])
def test_every_manifest_is_valid(way: str, kubernetes: str) -> None:
    preset, values = WAYS[way]
    manifests = rendered(preset=preset, values=values, kubernetes=kubernetes)
    assert len(manifests) > 20
    for manifest in manifests:
        schemas.check(manifest, kubernetes)


def test_the_ways_render_every_template() -> None:
    source = re.compile(r"^# Source: csecbridge/(?:charts/)?(.*)$", re.MULTILINE)
    texts = [told(preset=preset, values=values) for preset, values in WAYS.values()]
    found = {name for said in texts for name in source.findall(said)}
    there = {
        str(path.relative_to(HELM)).removeprefix("csecbridge/")
        for path in HELM.glob("*/templates/*.yaml")
        if "{{- /* Renders nothing" not in text(path)
    }
    assert found == there


@pytest.mark.parametrize("chart", SUBCHARTS)
def test_a_subchart_installs_alone(chart: str) -> None:
    values = LOGS if chart == "observability" else ()
    manifests = rendered(chart, release="alone", values=values)
    assert manifests
    assert list(pods(manifests))
    for manifest in manifests:
        schemas.check(manifest, "1.34")
        assert manifest["metadata"]["name"].startswith("alone-")


@pytest.mark.parametrize("preset", PRESETS)
def test_names_are_unique(preset: str) -> None:
    names = [named(manifest) for manifest in rendered(preset=preset)]
    assert len(names) == len(set(names))


def test_an_old_kubernetes_is_refused() -> None:
    with pytest.raises(NotRendered, match="chart requires kubeVersion"):
        rendered(kubernetes="1.29")


def test_charts_have_the_version_of_the_code() -> None:
    for path in HELM.glob("*/Chart.yaml"):
        for field in ("version", "appVersion"):
            found = re.search(rf"^{field}: (\S+)$", text(path), re.MULTILINE)
            assert found is not None
            assert found[1] == config.VERSION, path


def test_images_are_those_that_are_built() -> None:
    source = text(ROOT / "images/build.py")
    built = set(re.findall(r'^    "([a-z-]+)": ".*Dockerfile"', source, re.MULTILINE))
    ours = {
        re.split("[:@]", container["image"].rpartition("/")[2])[0]
        for _, pod in pods(rendered(preset="dev"))
        for container in containers(pod)
        if container["image"].startswith("ghcr.io/")
    }
    assert ours == built


def test_a_digest_wins() -> None:
    digest = "sha256:" + "a" * 64
    manifests = rendered(preset="dev", values=(f"global.digests.api-service={digest}",))
    images = {c["image"] for _, pod in pods(manifests) for c in containers(pod)}
    pinned = {image for image in images if "/api-service:" in image}
    assert pinned == {f"ghcr.io/csecbridge/csecbridge/api-service:{config.VERSION}@{digest}"}
