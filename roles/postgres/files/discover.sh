# shellcheck shell=sh
# discover.sh DATA BIN PATRONI NAME UNIT: the state of the cluster as one JSON object; changes nothing.
{
  data=$1 bin=$2 patroni=$3 name=$4 unit=$5
  if ! [ -e "$data/global/pg_control" ]; then
    echo '{"initialised": false, "running": false, "in_recovery": false, "failover": "", "system_identifier": "", "limits": {}}'
    exit
  fi
  control=$(LC_ALL=C "$bin/pg_controldata" -D "$data")
  value() { printf '%s\n' "$control" | sed -n "s/^$1: *//p"; }

  # Not by the state on disk: of data whose pg_rewind was cut off it says recovery too.
  recovery=false
  if [ -e "$data/standby.signal" ] || [ -e "$data/recovery.signal" ]; then recovery=true; fi

  # Under Patroni the member that leads is primary, whatever the files of another still say. A new leader takes half a minute.
  failover=manual
  if systemctl show -P ExecStart "$unit" | grep -q patroni; then
    failover=automatic recovery=true
    for _attempt in $(seq 60); do
      leader=$(/usr/sbin/runuser -u postgres -- patronictl -c "$patroni" list -f json | python3 -c 'import json, sys
print(*(row["Member"] for row in json.load(sys.stdin) if row["Role"] == "Leader"))')
      [ -z "$leader" ] || break
      sleep 1
    done
    [ "$leader" != "$name" ] || recovery=false
  fi

  # The server may listen on another port than the one now configured.
  running=false
  if port=$(sed -n 4p "$data/postmaster.pid" 2>/dev/null); then
    status=0
    /usr/sbin/runuser -u postgres -- "$bin/pg_isready" -q -h /run/postgresql -p "$port" || status=$?
    [ "$status" -ge 2 ] || running=true
  fi

  limits=$(printf '%s\n' "$control" | sed -n 's/^\(max_[a-z_]*\) setting: */"\1": /p' | sed s/xact/transaction/ | paste -s -d ,)
  printf '{"initialised": true, "running": %s, "in_recovery": %s, "failover": "%s", "system_identifier": "%s", "limits": {%s}}\n' \
    $running $recovery $failover "$(value 'Database system identifier')" "$limits"
  exit
} </dev/null
