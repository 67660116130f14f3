#!/usr/bin/env bash
# Brings a real Elasticsearch into .run/tools/engine: the server that its makers publish for tests, without
# Kibana, without a Java of its own, and without some modules (docs/logs.md names what that leaves untried).
# It comes through Maven, from wherever the machine's Maven gets what it gets.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=8.19.21 # the newest that is published so
sha256=215d5f3dbf0609a149f6218a9e47b6ae2df34ebbff3c5754e35f15a5e5393c8a
artifact=org.elasticsearch.distribution.integ-test-zip:elasticsearch:$version:zip
copy=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy

engine=${CSB_TOOLS_DIR:-$PWD/.run/tools}/engine
if [ -f "$engine/version" ] && [ "$version" = "$(cat "$engine/version")" ] && [ -x "$(cat "$engine/java")/bin/java" ]; then
    echo 'engine: it is there'
    exit 0
fi

say() { printf 'engine: %s\n' "$*"; }

# java_home: of a Java that this Elasticsearch runs on, and that compiles what asks it in tests/logs.
java_home() {
    for home in /usr/lib/jvm/java-17-openjdk-* /usr/lib/jvm/java-21-openjdk-*; do
        [ ! -x "$home/bin/javac" ] || { printf '%s\n' "$home"; return; }
    done
    return 1
}

missing=()
java_home >/dev/null || missing+=(openjdk-17-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
if [ "${#missing[@]}" -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { say "as root: apt-get install ${missing[*]}"; exit 1; }
    say "from Debian: ${missing[*]}"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

say "Elasticsearch $version"
rm -rf "$engine"
mkdir -p "$engine"
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
JAVA_HOME=$(java_home) mvn --quiet --batch-mode "$copy" -Dartifact="$artifact" -DoutputDirectory="$fetched" \
    -Dmaven.repo.local="$fetched/m2"
zip=$fetched/elasticsearch-$version.zip
printf '%s  %s\n' "$sha256" "$zip" | sha256sum --check --quiet
"${PYTHON:-python3}" -m zipfile -e "$zip" "$fetched/tree"
mv "$fetched/tree/elasticsearch-$version" "$engine/elasticsearch"
chmod 755 "$engine"/elasticsearch/bin/*
java_home >"$engine/java"
printf '%s\n' "$version" >"$engine/version"
say "it is in $engine"
