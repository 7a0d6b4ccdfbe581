# shellcheck shell=sh
# reclone.sh DATA BIN UNIT CONNINFO SLOT CREATE PATRONI CLUSTER NAME: clones a replica anew whose primary no longer has the WAL that it wants,
# by PATRONI or, where that is empty, by CREATE, the text of create.sh. It has nothing that the primary lacks. Prints what it did.
{
  data=$1 bin=$2 unit=$3 conninfo=$4 slot=$5 create=$6 patroni=$7 cluster=$8 name=$9
  as_postgres() { /usr/sbin/runuser -u postgres -- "$@"; }
  sql() { as_postgres "$bin/psql" -XqAt -h /run/postgresql -p "$(sed -n 4p "$data/postmaster.pid")" -d postgres -c "$1" 2>/dev/null || true; }
  # It asks again twice a second, and between two refusals seems to stream.
  refused() { journalctl -q -o cat -u "$unit" --since=-5s | grep -q 'requested WAL segment .* has already been removed'; }
  follows() {
    [ -n "$(sql "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND pg_postmaster_start_time() < now() - interval '5 s'")" ]
  }

  rm -rf "$data.outdated"
  for _second in $(seq 20); do
    if refused; then
      if [ -n "$patroni" ]; then
        as_postgres patronictl -c "$patroni" reinit "$cluster" "$name" --force --wait >&2
      else
        systemctl stop "$unit"
        mv -T "$data" "$data.outdated"
        rm -rf "$data.outdated"
        as_postgres /bin/sh -euc "$create" create.sh "$data" "$bin" "$conninfo" "$slot"
        systemctl start "$unit"
      fi
      echo "cloned anew, as the primary no longer had the WAL that it wanted"
      exit
    fi
    ! follows || exit 0
    sleep 1
  done
  exit
} </dev/null
