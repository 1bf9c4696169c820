#!/usr/bin/env bash
# Takes down what deploy.sh brought up. The release goes first, while the controller still runs that removes its
# load balancers; else they would go on costing money. May be run again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
Usage: destroy.sh --region REGION [OPTIONS]

  --name NAME           the cluster [koorde]
  --namespace NS        the namespace [koorde-cache]
  --keep-cluster        only the ring goes; the cluster and its controllers stay
  --yes                 don't ask; needed without a terminal
  --dry-run             only print the commands: "+" changes something, "?" asks
TEXT
}

remove_ring() {
  say "The ring in $namespace"
  run aws eks update-kubeconfig --name "$name" --region "$region" --alias "$name"
  run helm --kube-context "$name" uninstall "$release" --namespace "$namespace" --ignore-not-found --wait --timeout 10m
  # Deleted objects stay until the controller has removed the load balancer behind them.
  local kind
  for kind in service/"$release-nlb" ingress/"$release"; do
    if [[ $dry_run == yes ]] || there kubectl --context "$name" --namespace "$namespace" get "$kind"; then
      run_k --namespace "$namespace" wait --for=delete "$kind" --timeout=10m
    fi
  done
  run_k delete namespace "$namespace" --ignore-not-found --timeout=10m
}

remove_identity() {
  say "IAM role $role"
  local found
  if cluster_exists; then
    found=$(association)
    [[ $found == None ]] || run aws eks delete-pod-identity-association \
      --cluster-name "$name" --region "$region" --association-id "$found"
  fi
  if [[ $dry_run == no ]] && ! there aws iam get-role --role-name "$role"; then
    echo "It is not there." >&2
    return
  fi
  if [[ $dry_run == yes ]] || there aws iam get-role-policy --role-name "$role" --policy-name koorde; then
    run aws iam delete-role-policy --role-name "$role" --policy-name koorde
  fi
  run aws iam delete-role --role-name "$role"
}

options "$@"
needs aws eksctl kubectl helm
confirm "This removes the ring$([[ $keep_cluster == yes ]] || echo " and the cluster $name in $region"). Go on?" \
  || fail "--yes is needed where there is no terminal to ask at"
if [[ $dry_run == yes ]] || cluster_exists; then
  remove_ring
else
  say "Cluster $name in $region is not there"
fi
remove_identity
if [[ $keep_cluster == no ]] && { [[ $dry_run == yes ]] || cluster_exists; }; then
  say "Cluster $name in $region"
  run eksctl delete cluster --name "$name" --region "$region" --wait --disable-nodegroup-eviction
fi
