# shellcheck shell=sh
# create.sh DATA BIN [CONNINFO SLOT]: a new cluster, or with CONNINFO a clone of the primary there. Runs as postgres.
# All is made beside DATA and renamed at the end: what is named DATA is whole, and nothing is ever made over it.
{
  data=$1 bin=$2 partial=$1.partial
  umask 077
  mkdir -p "${data%/*}"

  # A killed run may still be at work here: wait for it, and use what it made.
  exec 9<"${data%/*}"
  flock -w 3600 9 || { echo "Another run has been creating $data for an hour; end it and run again." >&2; exit 1; }
  if [ -e "$data/global/pg_control" ]; then
    rm -rf "$data.former"
    exit
  fi
  if [ -n "$(ls -A "$data" 2>/dev/null)" ]; then
    echo "$data holds files but no cluster; nothing is made over them. Move the directory away and run again." >&2
    exit 1
  fi
  rm -rf "$partial"

  if [ $# -eq 2 ]; then
    "$bin/initdb" -D "$partial" --data-checksums --auth-local=peer --auth-host=scram-sha-256 \
      --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 --no-instructions
    rm "$partial/postgresql.conf" "$partial/pg_hba.conf"
  else
    # The connection of a clone that was cut off holds the slot until the primary notices, 60 s by default.
    for attempt in $(seq 18); do
      "$bin/pg_basebackup" -D "$partial" -d "$3" -S "$4" -X stream -c fast -w 2>"$partial.log" && break
      if [ "$attempt" = 18 ] || ! grep -q 'is active for PID' "$partial.log"; then
        cat "$partial.log" >&2
        echo "Cloning from the primary ($3) into $data failed; see above, mend it and run again." >&2
        exit 1
      fi
      rm -rf "$partial"
      sleep 5
    done
    rm -f "$partial.log"
    touch "$partial/standby.signal"
    sync "$partial/standby.signal"
  fi
  sync "$partial"
  mv -T "$partial" "$data"
  sync "${data%/*}"
  # What rejoin.sh had put aside; beside a new cluster it may be the last copy.
  [ $# -eq 2 ] || rm -rf "$data.former"
  exit
} </dev/null
