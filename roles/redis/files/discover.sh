# shellcheck shell=sh
# discover.sh SENTINEL_PORT: prints whom the Sentinel of this host takes for primary, with the number of its failover, and what the
# server of this host is; nothing for one that does not answer. Its input is the command that logs in.
login=$(cat)
ask() { printf '%s\n' "$login" "$1" | timeout 3 redis-cli "$2" "$3" 2>/dev/null | tr -d '\r'; }

ask "SENTINEL MASTER main" -p "$1" |
  awk '$0 == "ip" { getline; ip = $0 } $0 == "config-epoch" { getline; epoch = $0 } END { if (ip) print "sentinel", epoch, ip }'
ask "INFO replication" -s /run/redis/redis-server.sock |
  awk -F: '{ found[$1] = $2 } END { if (found["role"]) print found["role"], found["connected_slaves"], found["master_host"] }'
