# shellcheck shell=sh
# apply.sh "PRIMARY PORT" FAILOVER: gives its input, commands for redis-cli, to the running server, after a restart where a file asks for one
# or the password is another; then makes it a replica of that primary, where it is a primary without replicas. Prints what it did.
primary=$1 failover=$2
commands=$(cat)
answer() { printf "%s\n" "$@" | redis-cli -s /run/redis/redis-server.sock 2>&1 | tr -d '\r'; }

reason=$(find /etc/redis/redis.conf /etc/redis/replication.conf /etc/systemd/system/redis-server.service.d \
  -type f -newer /run/redis/redis-server.pid 2>/dev/null) || :
[ -n "$reason" ] || case $(answer "$commands") in WRONGPASS*) reason="the password of admin" ;; esac
if [ -n "$reason" ]; then
  systemctl restart redis-server.service || { journalctl -q -n 8 -o cat -u redis-server.service >&2; exit 1; }
  echo "$reason"
fi
[ "$(answer "$commands" | sort -u)" = OK ] || { answer "$commands" >&2; exit 1; }

login=$(printf '%s\n' "$commands" | head -n 1)
case $(answer "$login" "INFO replication" | awk -F: '{ found[$1] = $2 } END { print found["role"], found["connected_slaves"] }') in
"master 0") follow=$primary ;;
"slave"*) [ "$failover" = sentinel ] || follow="NO ONE" ;;
esac
if [ -n "${follow:-}" ]; then
  [ "$(answer "$login" "REPLICAOF $follow" | sort -u)" = OK ] || { answer "$login" "REPLICAOF $follow" >&2; exit 1; }
  echo "REPLICAOF $follow"
fi
