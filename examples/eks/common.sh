# shellcheck shell=bash
# What deploy.sh and destroy.sh share: options, and how commands are run. Sourced, not run.
# shellcheck disable=SC2034  # the two scripts use these variables

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
chart=$here/../../helm/koorde
name=koorde region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}} namespace=koorde-cache release=koorde
expose=nlb identity=none autoscaler=yes keep_cluster=no dry_run=no yes=no
values=()

fail() { echo "${0##*/}: $*" >&2; exit 2; }
say() { printf '\n== %s\n' "$*" >&2; }

# --option VALUE; what is not among the values after it is refused.
one_of() {
  local option=$1 value=$2 allowed; shift 2
  for allowed in "$@"; do [[ $value == "$allowed" ]] && return; done
  fail "$option $value: must be one of $*"
}

options() {
  while (($#)); do
    case $1 in
      --name | --region | --namespace | --expose | --identity | --values)
        (($# > 1)) || fail "$1 needs a value" ;;&
      --name) name=$2; shift 2 ;;
      --region) region=$2; shift 2 ;;
      --namespace) namespace=$2; shift 2 ;;
      --expose) one_of "$1" "$2" none nlb alb both; expose=$2; shift 2 ;;
      --identity) one_of "$1" "$2" none irsa pod-identity; identity=$2; shift 2 ;;
      --values) [[ -r $2 ]] || fail "--values $2: cannot be read"; values+=("$2"); shift 2 ;;
      --no-autoscaler) autoscaler=no; shift ;;
      --keep-cluster) keep_cluster=yes; shift ;;
      --dry-run) dry_run=yes; shift ;;
      --yes) yes=yes; shift ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; fail "$1: is no option" ;;
    esac
  done
  [[ -n $region ]] || fail "--region is not given, and neither AWS_REGION nor AWS_DEFAULT_REGION is set"
  [[ $name =~ ^[a-zA-Z][-a-zA-Z0-9]{0,50}$ ]] || fail "--name $name: must be letters, digits and -, at most 51"
  [[ $namespace =~ ^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || fail "--namespace $namespace: must be a name of a namespace"
  role=$name-koorde
}

needs() {
  local tool
  [[ $dry_run == yes ]] && return
  for tool in "$@"; do command -v "$tool" >/dev/null || fail "needs $tool on PATH"; done
}

# Runs a command that changes something, and shows it first.
run() {
  printf '+' >&2; printf ' %q' "$@" >&2; printf '\n' >&2
  [[ $dry_run == yes ]] || "$@" >&2
}

# Shows a command that only asks; it is run only without --dry-run.
question() {
  [[ $dry_run == yes ]] || return 0
  printf '?' >&2; printf ' %q' "$@" >&2; printf '\n' >&2
}

# Whether something is there, by a command that asks for it. With --dry-run nothing is. Ends the script if the answer
# is neither yes nor no: with the wrong credentials nothing would seem to be there.
there() {
  question "$@"
  [[ $dry_run == no ]] || return 1
  local error
  if error=$("$@" 2>&1 >/dev/null); then return 0; fi
  [[ $error =~ ResourceNotFoundException|NoSuchEntity|NotFound ]] || fail "$*: $error"
  return 1
}

# What a command says; with --dry-run the word that stands for it.
value() {
  local word=$1; shift
  question "$@"
  if [[ $dry_run == yes ]]; then echo "$word"; else "$@"; fi
}

k() {
  if [[ $dry_run == yes ]]; then
    printf '?' >&2; printf ' %q' "$@" >&2; printf '\n' >&2
    return 1
  fi
  "$@" 2>/dev/null
}

run_k() { run kubectl --context "$name" "$@"; }
cluster_exists() { there aws eks describe-cluster --name "$name" --region "$region" --query cluster.status --output text; }
association() {
  value None aws eks list-pod-identity-associations --cluster-name "$name" --region "$region" \
    --namespace "$namespace" --service-account "$release" --query 'associations[0].associationId' --output text
}

# Fills in @KEY@ of a file: fill FILE KEY VALUE KEY VALUE…
fill() {
  local text; text=$(<"$1"); shift
  while (($#)); do text=${text//@$1@/$2}; shift 2; done
  printf '%s\n' "$text"
}

# Asks whoever sits at a terminal; without one, says so by its status.
confirm() {
  [[ $yes == yes || $dry_run == yes ]] && return
  [[ -t 0 && -t 2 ]] || return 2
  local answer
  read -r -p "$1 [y/N] " answer
  [[ $answer == [yY]* ]] || { echo "Nothing was done." >&2; exit 1; }
}
