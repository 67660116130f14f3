#!/usr/bin/env bash
# One Secret per component, each with the two URLs of that component and no other, under the names of the
# variables that it reads.
set -euo pipefail

# apply NAME: makes it of the lines KEY=VALUE that it reads, on the server, which keeps no copy of the values in an
# annotation.
apply() {
    kubectl create secret generic "$1" --namespace "$NAMESPACE" --from-env-file=/dev/stdin \
        --dry-run=client --output yaml |
        kubectl apply --server-side --field-manager csecbridge-deploy --namespace "$NAMESPACE" --filename -
}

# secret NAME VARIABLE URL
secret() {
    if [ -z "$3" ] || [ -z "$REDIS_URL" ]; then
        echo "::error::$1 lacks its database's URL or REDIS_URL: set the secrets of this environment"
        exit 1
    fi
    printf '%s=%s\nCSB_REDIS_URL=%s\n' "$2" "$3" "$REDIS_URL" | apply "$1"
}

secret csb-api-service CSB_DATABASE_URL "$API_DATABASE_URL"
secret csb-worker-aws CSB_DATABASE_URL "$AWS_DATABASE_URL"
secret csb-worker-sandbox CSB_DATABASE_URL "$SANDBOX_DATABASE_URL"
secret csb-csbctl CSB_ADMIN_DATABASE_URL "$ADMIN_DATABASE_URL"
secret csb-migrator CSB_MIGRATOR_DATABASE_URL "$MIGRATOR_DATABASE_URL"
# Backups read as a role of their own, where they are taken.
if [ -n "${BACKUP_PASSWORD:-}" ]; then
    printf 'username=csb_backup_user\npassword=%s\n' "$BACKUP_PASSWORD" | apply csb-backup
fi
