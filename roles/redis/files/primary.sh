# shellcheck shell=sh
# primary.sh: whether others replicate this Redis; its input is the command that logs in.
login=$(cat)
said=$(printf '%s\n' "$login" "INFO replication" | timeout 3 redis-cli -s /run/redis/redis-server.sock 2>/dev/null | tr -d '\r')
case $said in *role:master*connected_slaves:[1-9]*) echo yes ;; esac
