#!/usr/bin/env bash
# Start compose.yaml in Docker, let one request run to its end, and take everything down again.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck disable=SC2329 # by the trap
ended() {
    local status=$?
    [ "$status" = 0 ] || docker compose logs --tail 60
    docker compose down --volumes --timeout 20
    exit "$status"
}
trap ended EXIT

docker compose build local-aws
docker compose up --detach --wait --wait-timeout 180 api worker-aws worker-sandbox
eval "$(docker compose run --rm --no-TTY seed)" # CSB_URL and CSB_TOKEN
auth="X-Auth-Token: $CSB_TOKEN"
id=$(curl --fail --silent --show-error "$CSB_URL/api/v1/requests" --header "$auth" \
    --header 'Content-Type: application/json' --data '{
      "cloud_provider": "aws", "action": "attach_policy", "account_id": "111122223333",
      "principal": {"type": "user", "name": "alice"},
      "parameters": {"policy_arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}}' |
    jq --exit-status --raw-output .correlation_id)
for _ in $(seq 12); do
    status=$(curl --fail --silent --show-error "$CSB_URL/api/v1/requests/$id?wait=10" --header "$auth" |
        jq --exit-status --raw-output .status)
    echo "compose: $id is $status"
    case $status in SUCCESS) exit 0 ;; FAILED | CANCELLED) exit 1 ;; esac
done
exit 1
