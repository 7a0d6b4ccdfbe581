# shellcheck shell=sh
# replace.sh DATA RESTORED UNIT: stops UNIT, the server of RESTORED, and has that take the place of DATA, which is kept as DATA.replaced.
{
  data=$1 restored=$2 unit=$3
  systemctl stop "$unit"
  rm -rf "$data.replaced"
  [ ! -e "$data" ] || mv -T "$data" "$data.replaced"
  mv -T "$restored" "$data"
  sync "${data%/*}"
  [ ! -e "$data.replaced" ] || echo "$data.replaced"
  exit
} </dev/null
