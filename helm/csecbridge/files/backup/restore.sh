#!/bin/sh
# Restores the one backup of dump.sh that lies below WORK, and believes in it only when the database says of itself
# what the one that was dumped has said.
#
#   restore.sh check WORK     into a server of its own below WORK, which nobody reaches, and which ends with this
#   restore.sh replace WORK   into the server that PGHOST, PGUSER and PGPASSWORD name: beside PGDATABASE, and in its
#                             place once all is found well; what stood there keeps another name
set -eu
programs=$(dirname "$0")
jobs=${RESTORE_JOBS:-2}

die() {
    echo "restore: $*" >&2
    exit 1
}

ask() {
    psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"
}

look_at_files() {
    [ -s "$1/SHA256SUMS" ] || die "$1 is no backup: it has no SHA256SUMS"
    (cd "$1" && sha256sum --check --quiet SHA256SUMS) || die "$1 is not what was written: its files have other digests"
}

# From the backup $1 into a new database $2.
fill() {
    createdb --maintenance-db=postgres --template=template0 "$2"
    PGOPTIONS="-c client_min_messages=warning" ask --dbname="$2" --set=database="$2" --file="$1/roles.psql"
    pg_restore --dbname="$2" --jobs="$jobs" --exit-on-error --no-password "$1/database.dump" \
        || die "pg_restore failed"
}

# Whether the database $2 is what the backup $1 says, and what any database of ours must be.
compare() {
    ask --dbname="$2" --output="$work/said" --file="$programs/manifest.psql"
    LC_ALL=C sort --output="$work/said" "$work/said"
    diff "$1/manifest" "$work/said" >"$work/differs" \
        || die "the restored database is not what was dumped (< was dumped, > was restored):
$(grep '^[<>]' "$work/differs" | head -n 20)"
    ask --dbname="$2" --file="$programs/check.psql" || die "the restored database breaks a rule"
}

tell() {
    rows=$(awk -F'[| ]' '$1 == "rows" { sum += $3 } END { print sum + 0 }' "$1/manifest")
    schema=$(sed -n 's/^migration|\([0-9]*\)_.*/\1/p' "$1/manifest" | tail -n 1)
    echo "restore: $(basename "$1") $2: schema $schema, $rows rows"
}

check() {
    data=$2/server
    PGHOST=$work PGUSER=postgres PGPORT=5432
    export PGHOST PGUSER PGPORT
    initdb --pgdata="$data" --username="$PGUSER" --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
    trap 'pg_ctl --pgdata="$data" --mode=immediate --silent stop; rm -rf "$data" "$work"' EXIT
    # It need not outlive this script, so it waits for no disk; and a pod's /dev/shm is small.
    pg_ctl --pgdata="$data" --log="$2/server.log" --silent --wait --timeout=60 start --options="-c listen_addresses= \
        -c unix_socket_directories=$PGHOST -c fsync=off -c full_page_writes=off -c dynamic_shared_memory_type=mmap" \
        || die "no server started: $(tail -n 3 "$2/server.log")"
    fill "$1" csb
    compare "$1" csb
    tell "$1" "is verified"
}

replace() {
    : "${PGDATABASE:?which database is to be replaced?}"
    stamp=$(date -u +%Y%m%d%H%M%S)
    new=${PGDATABASE}_restored_$stamp old=${PGDATABASE}_before_$stamp
    fill "$1" "$new"
    compare "$1" "$new"
    ask --dbname="$new" --command=ANALYZE
    if ! ask --dbname=postgres --set=current="$PGDATABASE" --set=new="$new" --set=old="$old" \
        --file="$programs/swap.psql"; then
        echo 'ALTER DATABASE :"current" ALLOW_CONNECTIONS true' | ask --dbname=postgres --set=current="$PGDATABASE"
        die "$PGDATABASE could not be replaced, and stands as before; what was restored is called $new"
    fi
    tell "$1" "stands in the place of $PGDATABASE, which is called $old now"
}

# What is written on the way; a server's socket among it, so its path must be short.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
set -- "${1:-}" "${2:-.}" "${2:-.}"/[0-9]*Z
[ $# = 3 ] && [ -d "$3" ] || die "there is not one backup in $2"
look_at_files "$3"
case $1 in
    check) check "$3" "$2" ;;
    replace) replace "$3" ;;
    *) die "say check or replace" ;;
esac
