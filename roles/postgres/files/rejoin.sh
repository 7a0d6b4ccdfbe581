# shellcheck shell=sh
# rejoin.sh DATA BIN UNIT CONF CONNINFO SLOT CREATE: makes a former primary's data a replica's of the primary at CONNINFO: pg_rewind takes
# back what that one has not got, or CREATE, the text of create.sh, clones it anew. Prints what it did.
{
  data=$1 bin=$2 unit=$3 conf=$4 conninfo=$5 slot=$6 create=$7
  as_postgres() { /usr/sbin/runuser -u postgres -- "$@"; }
  rewind() { as_postgres "$bin/pg_rewind" -D "$data" --source-server "$conninfo dbname=postgres" --config-file "$conf/postgresql.conf" "$@" 2>&1; }

  systemctl stop "$unit"
  if [ -d "$data.former" ]; then
    : # the clone was cut off
  elif said=$(rewind --dry-run); then
    fork=$(printf '%s\n' "$said" | sed -n 's/.*servers diverged at WAL location \([0-9A-F/]*\) on timeline.*/\1/p')
    # What it had acknowledged, and the new primary never got.
    lost=$(as_postgres "$bin/pg_waldump" -p "$data/pg_wal" -s "${fork:-0/0}" -r Transaction 2>/dev/null | grep -c COMMIT || true)
    rewind >/dev/null && echo "rewound to ${fork:-where it was}; transactions that only this host had, and that are gone: ${fork:+$lost}"
  else
    printf '%s\n' "$said" >&2
    mv -T "$data" "$data.former"
  fi
  if [ -d "$data.former" ]; then
    as_postgres /bin/sh -euc "$create" create.sh "$data" "$bin" "$conninfo" "$slot"
    rm -rf "$data.former"
    echo "cloned anew"
  fi
  as_postgres touch "$data/standby.signal"
  sync "$data/standby.signal"
  exit
} </dev/null
