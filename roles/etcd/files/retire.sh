# shellcheck shell=sh
# retire.sh ENDPOINT HOSTS: takes these hosts out of the cluster. Prints those that were in it.
for host in $2; do
  id=$(etcdctl --endpoints "$1" member list | awk -F ', ' -v name="$host" '$3 == name { print $1 }')
  [ -n "$id" ] || continue
  end=$(($(date +%s) + 30))
  # refused until the others have all been connected for 5 s
  until said=$(etcdctl --endpoints "$1" member remove "$id" 2>&1); do
    [ "$(date +%s)" -lt "$end" ] || { echo "etcd did not let $host go within 30 s: $said" >&2; exit 1; }
    sleep 1
  done
  echo "$said"
done
