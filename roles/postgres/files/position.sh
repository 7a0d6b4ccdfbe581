# shellcheck shell=sh
# position.sh BIN PORT SECONDS: how much of the WAL a replica has, and from where it streams, as JSON; waits so long for it to notice that
# its primary is gone.
{
  bin=$1 port=$2 seconds=$3
  sql() { /usr/sbin/runuser -u postgres -- "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h /run/postgresql -p "$port" -d postgres -c "$1"; }

  end=$(($(date +%s) + seconds))
  while [ "$(date +%s)" -lt "$end" ] && [ -n "$(sql "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'")" ]; do sleep 1; done
  # After a restart without a primary the receiver is at the beginning of its file, and what was replayed is beyond.
  sql "SELECT json_build_object(
    'received', pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::bigint,
    'streams_from', (SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'))"
  exit
} </dev/null
