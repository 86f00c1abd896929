#!/bin/sh
# Makes deploy/secrets/ with random passwords, each file its owner's alone. What is there stays as it is.
# The node's container runs as user 10001, which must be able to read its three: run this as root, or chown them afterwards.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
make() { [ -e "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"; }
make database_password "$(random)"
make database_url "postgresql+psycopg://isocenter:$(cat secrets/database_password)@database/isocenter"
make node_token "$(random)"
make pseudonym_key "$(random)"
make orthanc_users.json "{\"RegisteredUsers\": {\"admin\": \"$(random)\"}}"
if [ "$(id -u)" = 0 ]; then
  chown 10001:10001 secrets/database_url secrets/node_token secrets/pseudonym_key
else
  echo "now: sudo chown 10001:10001 deploy/secrets/database_url deploy/secrets/node_token deploy/secrets/pseudonym_key"
fi
