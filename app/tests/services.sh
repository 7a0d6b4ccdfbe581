#!/bin/bash
# Runs in the container of the tests: PostgreSQL 17 (a primary and a streaming replica) and Redis 8, on unix sockets
# in /run/services alone. The password of every user is in /run/services/password.
set -eu
sockets=/run/services
bin=/usr/lib/postgresql/17/bin
PGPASSWORD=$(cat $sockets/password)
export PGPASSWORD PGHOST=$sockets PGUSER=postgres

start() { # start PORT DIRECTORY
  runuser -u postgres -- $bin/pg_ctl -D "$2" -w -s -l "$2.log" start -o \
    "-p $1 -k $sockets -c listen_addresses= -c fsync=off -c max_connections=60 -c shared_buffers=32MB"
}

install -d -o postgres -g postgres /data
runuser -u postgres -- $bin/initdb -D /data/primary --encoding=UTF8 --locale=C.UTF-8 --auth=scram-sha-256 \
  --pwfile=$sockets/password --no-sync >/dev/null
start 5432 /data/primary
psql -q -d postgres -c "CREATE ROLE app LOGIN PASSWORD '$PGPASSWORD'" -c "CREATE DATABASE app OWNER app"
runuser -u postgres -- $bin/pg_basebackup -D /data/replica -R --checkpoint=fast --no-sync
start 5433 /data/replica

cat >/data/redis.conf <<EOF
port 0
unixsocket $sockets/redis.sock
unixsocketperm 777
save ""
daemonize yes
pidfile /data/redis.pid
user default off
user app on >$PGPASSWORD ~cache:* resetchannels &cache:* -@all +@read +@write +@connection +@pubsub +eval -@dangerous
EOF
redis-server /data/redis.conf
until [ -S $sockets/redis.sock ]; do sleep 0.05; done
touch $sockets/ready
sleep infinity
