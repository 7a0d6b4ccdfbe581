# shellcheck shell=sh
# sentinel.sh MONITOR: begins the Sentinel anew where a file of its settings is newer than what it began with; MONITOR is then the line that
# names the primary. Else what it has found out since, and keeps in its own file, is its own. Prints what it began anew for.
own=/var/lib/redis/sentinel.conf began=/var/lib/redis/sentinel.began
reason=$(find /etc/redis/sentinel.acl /etc/redis/sentinel-login.conf /etc/redis/sentinel.conf \
  /etc/systemd/system/redis-sentinel.service.d -type f -newer $began 2>/dev/null) || reason="the first time"
if [ -n "$reason" ]; then
  systemctl stop redis-sentinel.service
  { echo "$1"; cat /etc/redis/sentinel.conf /etc/redis/sentinel-login.conf; } | install -m 600 -o redis -g redis /dev/stdin $own
  touch $began.now
fi
systemctl --quiet is-active redis-sentinel.service || reason=${reason:-"not running"}
[ -n "$reason" ] || exit 0
systemctl start redis-sentinel.service || { journalctl -q -n 8 -o cat -u redis-sentinel.service >&2; exit 1; }
[ ! -e $began.now ] || mv $began.now $began
echo "$reason"
