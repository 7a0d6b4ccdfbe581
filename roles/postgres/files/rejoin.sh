# shellcheck shell=sh
# rejoin.sh DATA BIN UNIT CONF CONNINFO SLOT CREATE: makes a former primary's data a replica's of the primary at CONNINFO: pg_rewind takes
# back what that one has not got, or CREATE, the text of create.sh, clones it anew. Prints what it did.
{
  data=$1 bin=$2 unit=$3 conf=$4 conninfo=$5 slot=$6 create=$7
  as_postgres() { /usr/sbin/runuser -u postgres -- "$@"; }
  rewind() { as_postgres "$bin/pg_rewind" -D "$data" --source-server "$conninfo dbname=postgres" --config-file "$conf/postgresql.conf" "$@" 2>&1; }
  # A dry run refuses what has crashed, and recovers nothing.
  recover() {
    case $(LC_ALL=C "$bin/pg_controldata" -D "$data" | sed -n 's/^Database cluster state: *//p') in
      'in production' | 'shutting down' | 'in crash recovery')
        as_postgres "$bin/postgres" --single -D "$data" -c "config_file=$conf/postgresql.conf" template1 >&2
        ;;
    esac
  }
  fork() { printf '%s\n' "$said" | sed -n "s/.*servers diverged at WAL location \([0-9A-F/]*\) on timeline \([0-9]*\).*/\\$1/p"; }
  # The timelines that it has written since the fork, and where each begins.
  since() {
    last=$(LC_ALL=C "$bin/pg_controldata" -D "$data" | sed -n "s/^Latest checkpoint's TimeLineID: *//p")
    echo "$(fork 2) $(fork 1)"
    [ "$last" = "$(fork 2)" ] || awk -v fork="$(fork 2)" -v last="$last" \
      '/^[0-9]/ { if (at) print $1, at; at = $1 >= fork ? $2 : "" } END { if (at) print last, at }' \
      "$data/pg_wal/$(printf %08X "$last").history"
  }
  # What it had acknowledged, and the new primary never got. pg_waldump fails where the WAL ends, and grep where nothing is lost.
  lost() {
    since | while read -r timeline at; do
      as_postgres "$bin/pg_waldump" -p "$data/pg_wal" -t "$timeline" -s "$at" -r Transaction 2>/dev/null </dev/null || true
    done | grep -c COMMIT || true
  }

  systemctl stop "$unit"
  said=
  if ! [ -e "$data/global/pg_control" ]; then
    : # the clone was cut off
  elif recover && said=$(rewind --dry-run) && { [ -z "$(fork 1)" ] || only_here=$(lost); } && rewind >&2; then
    as_postgres touch "$data/standby.signal"
    sync "$data/standby.signal"
    at=$(fork 1)
    echo "rewound to ${at:-where it was}; transactions that only this host had, and that are gone: ${only_here:-0}"
    exit
  else
    printf '%s\n' "$said" >&2
    rm -rf "$data.former"
    mv -T "$data" "$data.former"
  fi
  as_postgres /bin/sh -euc "$create" create.sh "$data" "$bin" "$conninfo" "$slot"
  echo "cloned anew; what only this host had is gone, uncounted"
  exit
} </dev/null
