# shellcheck shell=bash
# Kept bytecode: a run of Ansible starts Python a hundred times, and would compile what it imports as often.
unset PYTHONDONTWRITEBYTECODE

# Source this. `stage TEXT COMMAND…` says what is being done now, and afterwards how long it took.
stage() {
  local text=$1 start=$SECONDS status
  shift
  printf '\n==> %s\n' "$text"
  set +e # after || a function would go on past what fails in it
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    printf '    %s: %s s\n' "$text" "$((SECONDS - start))"
  else
    printf '    %s: failed after %s s (%s ended with %s)\n' "$text" "$((SECONDS - start))" "$1" "$status" >&2
    exit "$status"
  fi
}
