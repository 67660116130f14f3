#!/bin/sh
# Takes one backup of the database that PGHOST, PGUSER, PGDATABASE and PGPASSWORD name, into a folder of its own
# below $1. The folder has its name only once everything is in it.
set -eu
programs=$(dirname "$0")
name=$(date -u +%Y%m%dT%H%M%SZ)
partial=$1/.$name.partial

mkdir "$partial"
DUMP=$partial/database.dump psql --no-psqlrc --quiet --file="$programs/dump.psql" \
    --set=programs="$programs" --set=folder="$partial"
LC_ALL=C sort --output="$partial/manifest" "$partial/manifest"
(cd "$partial" && sha256sum database.dump roles.psql manifest >SHA256SUMS)
mv "$partial" "$1/$name"
echo "dump: $name, $(grep -c '^rows|' "$1/$name/manifest") tables, $(wc -c <"$1/$name/database.dump") bytes"
