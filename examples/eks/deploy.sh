#!/usr/bin/env bash
# Brings a koorde ring up on EKS: the cluster if there is none, what the load balancers need, the chart.
# May be run again: what is there already is kept, and the chart is upgraded.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
Usage: deploy.sh --region REGION [OPTIONS]

  --name NAME           the cluster [koorde]
  --namespace NS        the namespace [koorde-cache]
  --expose WAY          none, nlb, alb or both [nlb]
  --identity WAY        none, irsa or pod-identity: an IAM role for the nodes [none]
  --values FILE         more values for the chart; may be repeated
  --no-autoscaler       without the Cluster Autoscaler (Karpenter, Auto Mode)
  --yes                 don't ask before a cluster is made, which costs money
  --dry-run             only print the commands: "+" changes something, "?" asks
TEXT
}

make_cluster() {
  say "Cluster $name in $region"
  if cluster_exists; then
    echo "It is there." >&2
  else
    # Without a terminal nobody can be asked: who runs a script called deploy wants it.
    confirm "This makes a cluster that costs some 200 dollars a month until destroy.sh. Go on?" || true
    local file; file=$(mktemp)
    fill "$here/cluster.yaml" NAME "$name" REGION "$region" >"$file"
    run eksctl create cluster --config-file "$file"
    rm -f "$file"
  fi
  # A context of this name, so that nothing below can reach another cluster.
  run aws eks update-kubeconfig --name "$name" --region "$region" --alias "$name"
}

install_controllers() {
  local vpc
  if [[ $expose != none ]]; then
    say "AWS Load Balancer Controller"
    vpc=$(value VPC aws eks describe-cluster --name "$name" --region "$region" \
      --query cluster.resourcesVpcConfig.vpcId --output text)
    run helm --kube-context "$name" upgrade --install aws-load-balancer-controller aws-load-balancer-controller \
      --repo https://aws.github.io/eks-charts --namespace kube-system --wait \
      --set "clusterName=$name" --set "region=$region" --set "vpcId=$vpc" \
      --set serviceAccount.name=aws-load-balancer-controller
  fi
  if [[ $autoscaler == yes ]]; then
    say "Cluster Autoscaler"
    run helm --kube-context "$name" upgrade --install cluster-autoscaler cluster-autoscaler \
      --repo https://kubernetes.github.io/autoscaler --namespace kube-system --wait \
      --set "autoDiscovery.clusterName=$name" --set "awsRegion=$region" \
      --set rbac.serviceAccount.name=cluster-autoscaler
  fi
}

make_namespace() {
  say "Namespace $namespace"
  there kubectl --context "$name" get namespace "$namespace" || run_k create namespace "$namespace"
  run_k label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted \
    elbv2.k8s.aws/pod-readiness-gate-inject=enabled
}

# An IAM role with iam/koorde-policy.json, trusted as FILE says.
make_role() {
  local account oidc trust
  account=$(value ACCOUNT aws sts get-caller-identity --query Account --output text)
  oidc=$(value https://OIDC aws eks describe-cluster --name "$name" --region "$region" \
    --query cluster.identity.oidc.issuer --output text)
  trust=$(fill "$1" ACCOUNT "$account" OIDC "${oidc#https://}" NAMESPACE "$namespace" RELEASE "$release")
  if there aws iam get-role --role-name "$role"; then
    run aws iam update-assume-role-policy --role-name "$role" --policy-document "$trust"
  else
    run aws iam create-role --role-name "$role" --assume-role-policy-document "$trust"
  fi
  run aws iam put-role-policy --role-name "$role" --policy-name koorde \
    --policy-document "$(<"$here/iam/koorde-policy.json")"
  role_arn=arn:aws:iam::$account:role/$role
}

make_identity() {
  [[ $identity != none ]] || return 0
  say "IAM role $role by $identity"
  make_role "$here/iam/$identity-trust.json"
  [[ $identity == pod-identity ]] || return 0
  local found
  found=$(association)
  [[ $found != None ]] || run aws eks create-pod-identity-association --cluster-name "$name" \
    --region "$region" --namespace "$namespace" --service-account "$release" --role-arn "$role_arn"
}

install_chart() {
  say "The ring"
  local arguments=(--values "$here/values.yaml")
  [[ $expose == none ]] || arguments+=(--values "$here/values-$expose.yaml")
  [[ $identity == none ]] || arguments+=(--values "$here/values-$identity.yaml")
  [[ $identity != irsa ]] || arguments+=(--set-string "serviceAccount.annotations.eks\.amazonaws\.com/role-arn=$role_arn")
  local file; for file in ${values[@]+"${values[@]}"}; do arguments+=(--values "$file"); done
  run helm --kube-context "$name" upgrade --install "$release" "$chart" --namespace "$namespace" \
    "${arguments[@]}" --wait --timeout 10m
  run helm --kube-context "$name" test "$release" --namespace "$namespace" --logs
}

show() {
  say "Ready"
  local path='{.status.loadBalancer.ingress[0].hostname}' host
  if [[ $expose == nlb || $expose == both ]]; then
    host=$(value NLB kubectl --context "$name" --namespace "$namespace" get service "$release-nlb" -o "jsonpath=$path")
    echo "NLB: http://$host/cache?url=https://example.com/"
  fi
  if [[ $expose == alb || $expose == both ]]; then
    host=$(value ALB kubectl --context "$name" --namespace "$namespace" get ingress "$release" -o "jsonpath=$path")
    echo "ALB: http://$host/cache?url=https://example.com/"
  fi
  echo "Inside the cluster: http://$release.$namespace:8080/cache?url=https://example.com/"
}

options "$@"
needs aws eksctl kubectl helm
make_cluster
install_controllers
make_namespace
role_arn=
make_identity
install_chart
show
