#!/bin/bash
# Runs in the container of the tests: PostgreSQL 17 (a primary, before it a pool of three connections, and a streaming
# replica), Redis 8 and Memcached, on unix sockets in /run/services alone. The password of every user is in
# /run/services/password.
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

cat >/data/pgbouncer.ini <<EOF
[databases]
* = host=$sockets port=5432
[pgbouncer]
unix_socket_dir = $sockets
listen_port = 6432
pool_mode = transaction
max_prepared_statements = 200
default_pool_size = 3
query_wait_timeout = 3
server_login_retry = 1
auth_type = scram-sha-256
auth_file = /data/userlist.txt
auth_user = postgres
pidfile = /data/pgbouncer.pid
logfile = /data/pgbouncer.log
EOF
echo "\"postgres\" \"$PGPASSWORD\"" >/data/userlist.txt
chmod 777 /data
runuser -u postgres -- pgbouncer -q -d /data/pgbouncer.ini

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
memcached -d -u memcache -s $sockets/memcached.sock -a 777 -P /data/memcached.pid
until [ -S $sockets/memcached.sock ]; do sleep 0.05; done
touch $sockets/ready
sleep infinity
