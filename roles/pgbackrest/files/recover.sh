# shellcheck shell=sh
# recover.sh BIN STANZA DATA SOCKETS UNIT BACKUP [SETTING...]: restores BACKUP, a label, into DATA, beside what runs; then a server, UNIT,
# which listens on a socket in SOCKETS alone, replays the WAL with each SETTING (name=value) until it takes queries. Prints as JSON how
# long both took, and of when the last transaction is.
{
  bin=$1 stanza=$2 data=$3 sockets=$4 unit=$5 backup=$6
  shift 6
  as_postgres() { /usr/sbin/runuser -u postgres -- "$@"; }
  sql() { as_postgres "$bin/psql" -XqAt -h "$sockets" -d postgres -c "$1"; }
  fail() {
    echo "$1 The last lines of the server's log (journalctl -u $unit):" >&2
    journalctl -q -n 8 -o cat -u "$unit" >&2
    systemctl stop "$unit" 2>/dev/null || true
    rm -rf "$data"
    exit 1
  }

  # What a killed run left.
  systemctl stop "$unit" 2>/dev/null || true
  rm -rf "$data"
  install -d -o postgres -g postgres -m 0700 "${data%/*}" "$data" "$sockets"
  echo 'local all postgres peer' >"$sockets/pg_hba.conf"
  chmod 0644 "$sockets/pg_hba.conf"

  began=$(date +%s.%N)
  as_postgres pgbackrest --stanza="$stanza" --pg1-path="$data" --set="$backup" --type=none restore >&2 || { rm -rf "$data"; exit 1; }
  as_postgres touch "$data/recovery.signal"
  restored=$(date +%s.%N)

  count=$#
  while [ "$count" -gt 0 ]; do
    set -- "$@" -c "$1"
    shift
    count=$((count - 1))
  done
  # The first setting, given by whoever calls, is config_file; those of the command line win over postgresql.auto.conf.
  systemd-run --quiet --collect --unit="$unit" --property=User=postgres --property=KillSignal=SIGINT --property=KillMode=mixed \
    --property=TimeoutStopSec=600 "$bin/postgres" -D "$data" "$@" \
    -c "data_directory=$data" -c "hba_file=$sockets/pg_hba.conf" -c "listen_addresses=" -c "unix_socket_directories=$sockets" -c port=5432 \
    -c external_pid_file= -c hot_standby=off -c recovery_target_action=promote -c recovery_target_timeline=latest \
    -c "restore_command=pgbackrest --stanza=$stanza --pg1-path=$data archive-get %f \"%p\""
  until [ "$(sql 'SELECT pg_is_in_recovery()' 2>/dev/null)" = f ]; do
    systemctl is-active --quiet "$unit" || fail "The server that replays the WAL into $data has ended, as it could not get to where it was to."
    sleep 0.2
  done
  now=$(date +%s.%N)
  sql "SELECT json_build_object('restore_seconds', $restored - $began, 'recovery_seconds', $now - $restored,
    'last_commit', pg_last_xact_replay_timestamp())"
  exit
} </dev/null
