#!/usr/bin/env bash
# What `make check-deploy` does, with what `make tools` has brought.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=${CSB_TOOLS_DIR:-$PWD/.run/tools}
export PATH=$tools/bin:$PATH PYTHONPATH=$tools/python CSB_CHECK_DEPLOY=1
for tool in apparmor_parser helm helm-docs helm-unittest kube-score kustomize promtool pss ruby; do
    [ -x "$tools/bin/$tool" ] || { echo "check-deploy: $tool is missing: make tools"; exit 1; }
done

.venv/bin/python -m yamllint --strict -c tests/deploy/yamllint.yaml helm/*/{values,Chart}.yaml \
    helm/*/tests helm/csecbridge/presets helm/csecbridge/files platform-config tests/deploy/alerts.yaml
for chart in helm/*/values.yaml; do
    helm-unittest --strict --with-subchart=false "$(dirname "$chart")" 2> >(grep -v 'found symbolic link' >&2)
done
sed 's#RUNBOOKS#https://example.org#; s#STANDBYS#2#' helm/csecbridge/files/alerts.yaml >.run/alerts.yaml
promtool check rules .run/alerts.yaml
promtool test rules tests/deploy/alerts.yaml
exec .venv/bin/python -m pytest tests/deploy tests/logs "$@"
