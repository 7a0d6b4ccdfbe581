# shellcheck shell=sh
# promote.sh BIN PORT END SLOTS: makes this replica primary, once it has the WAL up to END (empty: what it has), and gives it SLOTS
# (separated by blanks) for the others. Prints what it did; nothing on a primary.
{
  bin=$1 port=$2 end=$3 slots=$4
  sql() { /usr/sbin/runuser -u postgres -- "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h /run/postgresql -p "$port" -d postgres -c "$1"; }

  # After a restart without a primary the receiver is at the beginning of its file, and what was replayed is beyond.
  has='greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())'
  if [ "$(sql 'SELECT pg_is_in_recovery()')" = t ]; then
    if [ -n "$end" ]; then
      for attempt in $(seq 50); do
        [ "$(sql "SELECT coalesce($has > '$end', false)")" = f ] || break
        if [ "$attempt" = 50 ]; then
          echo "This replica has not got the WAL up to $end within 10 s; it has $(sql "SELECT $has")." >&2
          exit 1
        fi
        sleep 0.2
      done
    fi
    sql "SELECT format('promoted at %s, after the transaction of %s', $has,
      coalesce(pg_last_xact_replay_timestamp()::text, 'no one'))"
    [ "$(sql 'SELECT pg_promote(true, 60)')" = t ] || { echo "It is not primary after 60 s; its log: journalctl -u 'postgresql@*'." >&2; exit 1; }
  fi
  for slot in $slots; do
    sql "SELECT pg_create_physical_replication_slot('$slot', true) WHERE '$slot' NOT IN (SELECT slot_name FROM pg_replication_slots)" >/dev/null
  done
  exit
} </dev/null
