#!/usr/bin/env bash
# One step of a rollout: upgrade, ask every version that stands (helm test), and go back if one does not answer.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
release=csecbridge
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

read -ra pinned <<<"$DIGESTS"
for pair in "${pinned[@]}"; do
    case $pair in api-service=*) api_digest=${pair#*=} ;; esac
done
: "${api_digest:?DIGESTS names no api-service}"

settings=(--set-string "global.images.registry=$REGISTRY" "${pinned[@]/#/--set-string=global.digests.}")
if [ -n "${SECRET_STORE:-}" ]; then
    [ "${SECRETS:-external}" = external ] || {
        echo "::error::CSB_SECRET_STORE is for CSB_SECRETS=external, and this environment says $SECRETS"
        exit 1
    }
    settings+=(--set externalSecrets.enabled=true --set-string "externalSecrets.store.name=$SECRET_STORE"
        --set-string "externalSecrets.store.kind=${SECRET_STORE_KIND:-SecretStore}")
fi

# now: the values of the release as it is; null when there is none. A cluster that does not answer ends this.
now() {
    if [ "$(helm list --namespace "$NAMESPACE" --filter "^$release\$" --all --output json)" = '[]' ]; then
        echo null
    else
        helm get values "$release" --namespace "$NAMESPACE" --output json
    fi
}

# upgrade STEP: what does not become ready is rolled back by Helm, what does not answer by us.
upgrade() {
    now >"$scratch/now.json"
    "$here/rollout_values.py" "$1" "$VERSION" "$api_digest" --strategy "$STRATEGY" --weight "$WEIGHT" \
        <"$scratch/now.json" >"$scratch/rollout.json"
    printf '%s\n' "$VALUES" >"$scratch/values.yaml"
    echo "== $1 $VERSION"
    helm upgrade "$release" "oci://$CHART" --install --namespace "$NAMESPACE" \
        --values "$scratch/values.yaml" --values "$scratch/rollout.json" "${settings[@]}" \
        --rollback-on-failure --timeout 15m --history-max 10
    if ! helm test "$release" --namespace "$NAMESPACE" --logs --timeout 5m; then
        if [ "$(cat "$scratch/now.json")" = null ]; then
            echo "::error::the first release does not answer; there is nothing to go back to"
        else
            echo "::error::a version does not answer; going back"
            helm rollback "$release" --namespace "$NAMESPACE" --wait --timeout 15m
        fi
        exit 1
    fi
}

upgrade "$STEP"
# The version is where the old one was: what stood beside may go, and callers notice neither.
[ "$STEP" != settle ] || upgrade clear
