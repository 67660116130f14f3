#!/usr/bin/env bash
# Write $KUBECONFIG for a cluster that believes GitHub's OIDC token. The token lives for minutes, what
# AWS gives for it an hour, and no other credential exists.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)

case ${CLUSTER:-} in
    eks)
        token=$RUNNER_TEMP/oidc-token
        "$here/oidc_credential.py" sts.amazonaws.com | jq --exit-status --raw-output .status.token >"$token"
        aws sts assume-role-with-web-identity --role-arn "$AWS_ROLE_ARN" \
            --role-session-name "csecbridge-$GITHUB_RUN_ID" --web-identity-token "file://$token" |
            jq --exit-status --raw-output '.Credentials
                | "AWS_ACCESS_KEY_ID=\(.AccessKeyId)", "AWS_SECRET_ACCESS_KEY=\(.SecretAccessKey)",
                  "AWS_SESSION_TOKEN=\(.SessionToken)"' >"$RUNNER_TEMP/aws"
        rm -f "$token"
        # The log shows three stars instead of these, whoever prints them.
        while IFS= read -r line; do printf '::add-mask::%s\n' "${line#*=}"; done <"$RUNNER_TEMP/aws"
        printf 'AWS_REGION=%s\n' "$AWS_REGION" >>"$RUNNER_TEMP/aws"
        cat "$RUNNER_TEMP/aws" >>"$GITHUB_ENV"
        set -a
        # shellcheck source=/dev/null
        . "$RUNNER_TEMP/aws"
        set +a
        rm -f "$RUNNER_TEMP/aws"
        aws eks update-kubeconfig --name "$EKS_CLUSTER" --region "$AWS_REGION" --kubeconfig "$KUBECONFIG"
        ;;
    kubernetes)
        # The API server is started with --authentication-config and trusts GitHub's issuer.
        printf '%s\n' "$KUBE_CA" >"$RUNNER_TEMP/cluster-ca.pem"
        kubectl config set-cluster csecbridge --server "$KUBE_SERVER" \
            --certificate-authority "$RUNNER_TEMP/cluster-ca.pem" --embed-certs=true
        kubectl config set-credentials github --exec-api-version client.authentication.k8s.io/v1 \
            --exec-interactive-mode Never --exec-command "$here/oidc_credential.py" \
            --exec-arg "$KUBE_AUDIENCE"
        kubectl config set-context csecbridge --cluster csecbridge --user github
        kubectl config use-context csecbridge
        ;;
    *)
        echo "::error::CSB_CLUSTER must be eks or kubernetes, not '${CLUSTER:-}'"
        exit 1
        ;;
esac
kubectl auth whoami
