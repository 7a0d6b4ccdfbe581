# shellcheck shell=bash
# Source this. `stage TEXT COMMAND…` says what is being done now, and afterwards how long it took.
stage() {
  local text=$1 start=$SECONDS status=0
  shift
  printf '\n==> %s\n' "$text"
  "$@" || status=$?
  if [ "$status" -eq 0 ]; then
    printf '    %s: %s s\n' "$text" "$((SECONDS - start))"
  else
    printf '    %s: failed after %s s (%s ended with %s)\n' "$text" "$((SECONDS - start))" "$1" "$status" >&2
    exit "$status"
  fi
}
