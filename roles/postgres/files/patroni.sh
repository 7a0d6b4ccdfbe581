# shellcheck shell=sh
# patroni.sh CLUSTER NAME CONF UNIT REST CERTIFICATE DYNAMIC TIMEOUT: waits until the member serves, reloads Patroni's own configuration
# until its API at REST (host:port) shows CERTIFICATE, and on the primary brings what the members share to DYNAMIC (JSON). Prints what it
# changed, and last whether the server has to restart for it.
{
  cluster=$1 name=$2 conf=$3 unit=$4 rest=$5 certificate=$6 dynamic=$7 timeout=$8
  ctl() { /usr/sbin/runuser -u postgres -- patronictl -c "$conf" "$@"; }
  # member FIELD: of this member's row
  member() { ctl list "$cluster" -f json | python3 -c 'import json, sys
print(*(row.get(sys.argv[2], "") for row in json.load(sys.stdin) if row["Member"] == sys.argv[1]))' "$name" "$1"; }
  serves() { case $(member Role):$(member State) in Leader:running | *:streaming) ;; *) return 1 ;; esac; }

  end=$(($(date +%s) + timeout))
  until serves 2>/dev/null; do
    if [ "$(date +%s)" -ge "$end" ]; then
      echo "$name neither leads cluster $cluster nor streams after $timeout s. The last lines of its log (journalctl -u $unit):" >&2
      journalctl -q -n 8 -o cat -u "$unit" >&2
      exit 1
    fi
    sleep 0.5
  done

  # Patroni 4.0 overlooks a new certificate in a reload that finds a change of its configuration too; it reloads once in a round.
  shown() { openssl s_client -connect "$rest" 2>/dev/null </dev/null | openssl x509 -noout -serial; }
  renewed() { [ "$(shown)" = "$(openssl x509 -noout -serial -in "$certificate")" ]; }
  systemctl reload "$unit"
  until renewed 2>/dev/null; do
    if [ "$(date +%s)" -ge "$end" ]; then
      echo "Patroni's API at $rest does not show $certificate after $timeout s: journalctl -u $unit." >&2
      exit 1
    fi
    sleep 5
    systemctl reload "$unit"
  done
  if [ "$(member Role)" = Leader ]; then
    said=$(printf '%s\n' "$dynamic" | ctl edit-config "$cluster" --apply - --force)
    case $said in
      *'Not changed'*) ;;
      *)
        printf '%s\n' "$said"
        # the members look at it once in a round
        sleep "$(ctl show-config "$cluster" | sed -n 's/^loop_wait: //p')"
        ;;
    esac
  fi
  [ -z "$(member 'Pending restart')" ] || echo restart pending
  exit
} </dev/null
