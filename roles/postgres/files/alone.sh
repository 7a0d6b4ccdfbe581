# shellcheck shell=sh
# alone.sh DATA BIN PORT CONF CA: lets a server start unless it would be a second primary. Where failover is manual, a primary that comes
# back asks the others, in CONF/peers, whether one of them was promoted meanwhile.
data=$1 bin=$2 port=$3 conf=$4 ca=$5
[ ! -e "$data/standby.signal" ] || exit 0
while read -r peer; do
  said=$(PGPASSFILE=$conf/pgpass "$bin/psql" -XAt -c 'SELECT NOT pg_is_in_recovery()' \
    "host=$peer port=$port user=replication dbname=postgres sslmode=verify-full sslrootcert=$ca connect_timeout=2" 2>/dev/null) || continue
  if [ "$said" = t ]; then
    echo "$peer is primary now, so that this server does not start as another one: run rejoin.yml."
    exit 1
  fi
done <"$conf/peers"
