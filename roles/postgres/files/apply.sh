# shellcheck shell=sh disable=SC2317
# apply.sh DATA BIN UNIT PID_FILE TIMEOUT PRIMARY PENDING [COMMAND...]: makes the server run as its files say, by a reload, and by a
# restart, after COMMAND, only where that is not enough or PENDING says so; with PRIMARY, waits until it streams from there. Prints
# what it restarted for.
{
  data=$1 bin=$2 unit=$3 pid_file=$4 timeout=$5 primary=$6 pending=$7
  shift 7

  # The server may still listen on another port than the one now configured.
  port() { sed -n 4p "$data/postmaster.pid" 2>/dev/null; }
  as_postgres() { /usr/sbin/runuser -u postgres -- "$@"; }
  sql() { as_postgres "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h /run/postgresql -p "$(port)" -d postgres -c "$1"; }
  fail() {
    echo "$1 The last lines of its log (journalctl -u $unit):" >&2
    journalctl -q -n 8 -o cat -u "$unit" >&2
    exit 1
  }
  # within SECONDS COMMAND...: until the command succeeds
  within() {
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
      [ "$(date +%s)" -lt "$end" ] || return 1
      sleep 0.2
    done
  }
  ready() { as_postgres "$bin/pg_isready" -q -h /run/postgresql -p "$(port)" 2>/dev/null; }
  reloaded() { [ "$(sql 'SELECT pg_conf_load_time()')" != "$before" ]; }
  streaming() { [ -n "$(sql "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = '$primary'")" ]; }

  within "$timeout" ready || fail "$unit does not accept connections after $timeout s."

  before=$(sql 'SELECT pg_conf_load_time()')
  sql 'SELECT pg_reload_conf()' >/dev/null
  within 10 reloaded || fail "$unit did not reload its configuration within 10 s."
  refused=$(sql "
    SELECT format('%s:%s: %s', sourcefile, sourceline, error) FROM pg_file_settings
    WHERE sourcefile IS NOT NULL AND error <> 'setting could not be applied'
    UNION ALL
    SELECT format('%s:%s: %s', file_name, line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL")
  [ -z "$refused" ] || fail "$unit refuses its configuration: $refused."

  reason=$pending$(sql 'SELECT name FROM pg_settings WHERE pending_restart'; find "/etc/systemd/system/$unit" -newer "$pid_file")
  if [ -n "$reason" ]; then
    [ $# -eq 0 ] || "$@"
    timeout "$timeout" systemctl restart "$unit" || fail "$unit did not restart within $timeout s."
    echo "$reason"
    within "$timeout" ready || fail "$unit does not accept connections $timeout s after its restart."
  fi

  [ -z "$primary" ] || within 60 streaming || fail "$unit does not stream from the primary at $primary after 60 s. If the primary \
is another cluster, move $data away on this host and run again: it is cloned anew."
  exit
} </dev/null
