#!/usr/bin/env bash
# Install the preset `small` into the cluster that kubectl reaches, where our images lie already, and ask what
# only a cluster answers: admission, network policies, volumes, `helm test`, a util from its post to its end, and a
# backup that is restored and compared.
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=csb-app
registry=${1:?the registry of the images}
say() { printf 'cluster: %s\n' "$*"; }

# shellcheck disable=SC2329 # by the trap
ended() {
    local status=$?
    if [ "$status" != 0 ]; then
        kubectl get all,events -n "$namespace" || true
        kubectl logs -n "$namespace" --selector app.kubernetes.io/name=csecbridge --all-containers --tail 40 || true
    fi
    [ -z "${forward:-}" ] || kill "$forward"
    exit "$status"
}
trap ended EXIT

kubectl apply -k platform-config/overlays/dev
python3 helm/make_secrets.py | kubectl create -n "$namespace" -f -

# Prometheus' operator is not there; and two sandboxes that ask for a core each are more than a runner has.
helm install csecbridge helm/csecbridge -n "$namespace" -f helm/csecbridge/presets/small.yaml \
    --set global.images.registry="$registry" --set global.monitoring.enabled=false \
    --set worker.workers.sandbox.resources.requests.cpu=250m --set console.enabled=true --wait --timeout 15m
helm test csecbridge -n "$namespace" --logs --timeout 5m

say 'a privileged pod is refused'
if kubectl run intruder -n "$namespace" --image "$registry/csbctl:0" --privileged 2>said; then
    exit 1
fi
grep 'violates PodSecurity' said

# reaches DEPLOYMENT HOST PORT: whether its pod gets a connection.
reaches() {
    kubectl exec -n "$namespace" "deployment/csecbridge-$1" -- python3 -c \
        'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' "$2" "$3" 2>/dev/null
}
open=('api-service csecbridge-postgres-db 5432' 'worker-sandbox csecbridge-redis 6379')
shut=('worker-sandbox kubernetes.default 443' 'api-service kubernetes.default 443' 'worker-aws csecbridge-api-service 80')
for way in "${open[@]}"; do
    say "open: $way"
    # shellcheck disable=SC2086 # three words
    reaches $way
done
for way in "${shut[@]}"; do
    say "shut: $way"
    # shellcheck disable=SC2086 # three words
    if reaches $way; then exit 1; fi
done

csbctl() { kubectl exec -n "$namespace" deployment/csecbridge-csbctl -- csbctl "$@"; }
csbctl tenant create acme --name 'Acme Ltd'
token=$(csbctl key create acme --scope requests:read --scope utils:read --scope utils:write --scope utils:execute |
    grep --only-matching --extended-regexp 'csb_[A-Za-z0-9_-]+' | head -1)
echo "::add-mask::$token"
kubectl port-forward -n "$namespace" service/csecbridge-api-service 8000:80 >/dev/null &
forward=$!
# call PATH [DATA]: one exchange with the API.
call() {
    curl --fail-with-body --silent --show-error --retry 5 --retry-connrefused "http://127.0.0.1:8000/api/v1/$1" \
        --header "X-Auth-Token: $token" --header 'Content-Type: application/json' ${2:+--data "$2"}
}
util=$(call utils '{"name": "greet", "kind": "transformer", "description": "Greets whoever it is given.",
    "code": "def transform(data):\n    return {\"greeting\": \"Hello \" + data[\"name\"]}\n"}' |
    jq --exit-status --raw-output .util_id)
id=$(call "utils/$util/execute" '{"input": {"name": "Ada"}}' | jq --exit-status --raw-output .correlation_id)
for _ in $(seq 12); do
    status=$(call "requests/$id?wait=10" | jq --exit-status --raw-output .status)
    say "$id is $status"
    case $status in SUCCESS) break ;; FAILED | CANCELLED) exit 1 ;; esac
done
[ "$status" = SUCCESS ]

say 'a backup, restored and compared before it counts'
kubectl create job -n "$namespace" --from cronjob/csecbridge-backup backup-now
kubectl wait -n "$namespace" --for condition=complete --timeout 10m job/backup-now
kubectl logs -n "$namespace" job/backup-now --all-containers --tail 20
