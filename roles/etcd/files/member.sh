# shellcheck shell=sh
# member.sh NAME DATA PEER_URL INITIAL ENDPOINT OTHERS new|established: makes the host a member of the cluster, and the server run
# as its files say. Prints what it did.
name=$1 data=$2 peer=$3 initial=$4 endpoint=$5 others=$6 cluster=$7

fail() {
  echo "$1 The last lines of its log (journalctl -u etcd):" >&2
  journalctl -q -n 8 -o cat -u etcd.service >&2
  exit 1
}
# Columns of a member: id, status, name, peer URLs, client URLs, whether it is a learner.
members() { etcdctl --endpoints "$1" member list; }
# within SECONDS COMMAND...: until the command succeeds
within() {
  end=$(($(date +%s) + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$end" ] || return 1
    sleep 0.2
  done
}
listens() { etcdctl --endpoints "$endpoint" endpoint status; }
healthy() { etcdctl --endpoints "$endpoint" endpoint health; }

if [ ! -d "$data/member" ]; then
  state=new
  if [ "$cluster" = established ]; then
    # One that was here before and lost its data, or a join that was cut off, is another member from now on.
    former=$(members "$others" | awk -F ', ' -v url="$peer" '$4 == url { print $1 }')
    # The others refuse both until they have all been connected for 5 s, as after the last one that joined.
    [ -z "$former" ] || within 30 etcdctl --endpoints "$others" member remove "$former" ||
      fail "etcd's other members did not let $name, which lost its data, go within 30 s: etcdctl endpoint health --cluster."
    within 30 etcdctl --endpoints "$others" member add "$name" --learner --peer-urls "$peer" ||
      fail "etcd's other members did not take $name in within 30 s: etcdctl endpoint health --cluster."
    state=existing
    initial=$(members "$others" | awk -F ', ' -v url="$peer" -v name="$name" '{ print ($4 == url ? name : $3) "=" $4 }' | paste -s -d ,)
  fi
  printf 'ETCD_INITIAL_CLUSTER=%s\nETCD_INITIAL_CLUSTER_STATE=%s\n' "$initial" "$state" >"$data.initial"
fi

since=$(systemctl show --timestamp=us+utc -P ActiveEnterTimestamp etcd.service)
reason="not running"
if systemctl --quiet is-active etcd.service; then
  reason=$(find /etc/default/etcd /etc/systemd/system/etcd.service.d "$data.initial" -newermt "$since" 2>/dev/null)
  if [ -n "$reason" ] && [ -e "$data.established" ] && [ -n "$others" ]; then
    etcdctl --endpoints "$others" endpoint health >/dev/null 2>&1 || fail "etcd on $name is not restarted, as another member \
is not healthy and the cluster might lose its quorum. Bring that one back first: etcdctl endpoint health --cluster."
  fi
fi
if [ -n "$reason" ]; then
  systemctl restart --no-block etcd.service
  echo "$reason"
fi

within 60 listens || fail "etcd on $name does not answer after 60 s."
id=$(members "${others:-$endpoint}" | awk -F ', ' -v name="$name" '$3 == name && $6 == "true" { print $1 }')
if [ -n "$id" ]; then
  # refused until it has caught up
  within 60 etcdctl --endpoints "$others" member promote "$id" || fail "etcd on $name has not caught up with the others after 60 s."
  echo "joined as $id"
fi
within 60 healthy || fail "etcd on $name finds no quorum of members after 60 s."
touch "$data.established"
