#!/usr/bin/env bash
# kubectl's and Helm's credential: GitHub's OIDC token for AUDIENCE, fetched anew whenever it runs out.
set -euo pipefail
audience=$1
[ -n "$audience" ]

curl --fail --silent --show-error --retry 3 --get --data-urlencode "audience=$audience" \
    --header @- "$ACTIONS_ID_TOKEN_REQUEST_URL" \
    <<<"Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" |
    jq --exit-status '{
        apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential",
        status: {token: .value, expirationTimestamp: (now + 240 | todate)}}'
