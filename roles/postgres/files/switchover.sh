# shellcheck shell=sh disable=SC2317
# switchover.sh NAME BIN PORT UNIT CLUSTER PATRONI REST CERTIFICATE KEY CA CANDIDATE: if NAME, this host, is primary, ends that while
# writers wait, so that none is cut off between its commit and its answer. With PATRONI, its configuration, CANDIDATE (empty: the best
# replica) is primary then, asked for at REST, its API; without, the server is stopped and its replicas have all it wrote. Prints the new
# primary, or where the WAL ends.
{
  name=$1 bin=$2 port=$3 unit=$4 cluster=$5 patroni=$6 rest=$7 certificate=$8 key=$9
  shift 9
  ca=$1 candidate=$2
  as_postgres() { /usr/sbin/runuser -u postgres -- "$@"; }
  ctl() { as_postgres patronictl -c "$patroni" "$@"; }
  sql() { as_postgres "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h /run/postgresql -p "$port" -d "$@"; }
  leader() { ctl list "$cluster" -f json | python3 -c 'import json, sys
print(*(row["Member"] for row in json.load(sys.stdin) if row["Role"] == "Leader" and row["State"] == "running"))'; }
  follows() { ctl list "$cluster" -f json | python3 -c 'import json, sys
sys.exit(not any(row["Member"] == sys.argv[1] and row["Role"] in ("Sync Standby", "Quorum Standby") for row in json.load(sys.stdin)))' "$candidate"; }

  if [ -n "$patroni" ]; then
    [ "$(leader)" = "$name" ] || exit 0
    end=$(($(date +%s) + 60))
    until [ -z "$candidate" ] || follows; do
      if [ "$(date +%s)" -ge "$end" ]; then
        echo "$candidate does not confirm what $name writes, and cannot become primary: patronictl -c $patroni list." >&2
        exit 1
      fi
      sleep 0.5
    done
  fi
  # What is on disk already, the shutdown has not to write while others wait.
  sql postgres -c CHECKPOINT >/dev/null
  # By their backends: those of clients that are killed sleep on, with their locks. A server that has stopped has none.
  release() { sql postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'switchover'" >/dev/null 2>&1 || true; }
  trap release EXIT
  for database in $(sql postgres -c "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"); do
    tables=$(sql "$database" -c "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
      WHERE relkind IN ('r', 'p') AND relpersistence = 'p' AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')")
    [ -n "$tables" ] || continue
    # Those who write wait in the queue; the shutdown then tells them that nothing was done, and they ask again.
    sql "$database" -c "SET application_name = 'switchover'; SET lock_timeout = '5s'" \
      -c "BEGIN; LOCK TABLE $tables IN EXCLUSIVE MODE; SELECT pg_sleep(30)" >/dev/null 2>&1 &
    held="SELECT 1 FROM pg_stat_activity WHERE application_name = 'switchover' AND datname = '$database' AND wait_event = 'PgSleep'"
    end=$(($(date +%s) + 6))
    until [ -n "$(sql postgres -c "$held")" ]; do
      if [ "$(date +%s)" -ge "$end" ]; then
        echo "A transaction in database $database holds its tables for longer than 5 s; end it and run again: \
SELECT pid, query FROM pg_stat_activity." >&2
        exit 1
      fi
      sleep 0.1
    done
  done
  # The shutdown ends the newest connection first. One from before the locks would outlive them, write, and be cut off from its answer; so
  # all connect anew, and wait behind them.
  sql postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> current_user" >/dev/null

  if [ -z "$patroni" ]; then
    systemctl stop "$unit"
    LC_ALL=C "$bin/pg_controldata" -D "/var/lib/postgresql/17/$cluster" | sed -n 's/^Latest checkpoint location: *//p'
    exit
  fi
  # Not by patronictl, which takes a second to start while writers wait.
  python3 - "$rest/switchover" "$certificate" "$key" "$ca" "$name" "$candidate" <<'END'
import json, ssl, sys, urllib.error, urllib.request
url, certificate, key, ca, leader, candidate = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
order = {"leader": leader, **({"candidate": candidate} if candidate else {})}
request = urllib.request.Request(url, json.dumps(order).encode(), {"Content-Type": "application/json"})
try:
    urllib.request.urlopen(request, context=context, timeout=60)
except urllib.error.HTTPError as error:
    sys.exit(f"Patroni refuses to move the primary from {leader}: {error.read().decode()}")
END
  end=$(($(date +%s) + 60))
  until now=$(leader) && [ -n "$now" ] && [ "$now" != "$name" ]; do
    [ "$(date +%s)" -lt "$end" ] || { echo "Cluster $cluster has no new primary after 60 s: patronictl -c $patroni list." >&2; exit 1; }
    sleep 0.2
  done
  echo "$now"
  exit
} </dev/null
