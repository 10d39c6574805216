#!/bin/sh
# Calls the purge API with nothing but a POSIX shell, openssl and curl. For deploy scripts, and as the shortest complete
# description of the signature.
#
#   export BATOFF_API=https://purge.example.net BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
#   sign.sh POST /v1/sites/shop/purge '{"urls":["https://www.example.com/index.html"]}'
#   sign.sh POST /v1/sites/shop/purge '{"tags":["product:42"]}' deploy-17      with an Idempotency-Key
#   sign.sh GET '/v1/sites/shop/purge/01JF7M2KZ7YH9Q4K0P2BDH9W3Y?wait=10'
#
# The answer's body goes to standard output. Exit code 0 for 2xx, 22 for an answer of 400 and above (its body is still
# printed), 64 for wrong usage, otherwise curl's.
# While openssl runs, the secret is among its arguments, so visible to other users of this machine. Where that
# matters, use the `batoff` command.
set -eu

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    echo "usage: $0 METHOD PATH [JSON [IDEMPOTENCY-KEY]]" >&2
    exit 64
fi
for variable in BATOFF_API BATOFF_TOKEN BATOFF_SECRET; do
    if eval "[ -z \"\${$variable:-}\" ]"; then
        echo "$0: set $variable" >&2
        exit 64
    fi
done
method=$1 path=$2 body=${3-} key=${4-}
case $path in
/v1/*) ;;
*) echo "$0: the path begins with /v1/, and is signed and sent exactly as given" >&2 && exit 64 ;;
esac
case $key in
*[!!-~]*) echo "$0: an Idempotency-Key is 1 to 255 visible ASCII characters" >&2 && exit 64 ;;
esac

# Decimals make two purges within one second two purges, and not one and its repetition. Where date knows no %N, random
# digits serve as well: the server allows 300 s of difference.
timestamp=$(date +%s.%N)
case $timestamp in
*[!0-9.]* | *.) timestamp=$(date +%s).$(od -An -N4 -tu4 /dev/urandom | tr -d ' \n' | cut -c1-9) ;;
esac

# `-r` prints the digits first whatever the version; what follows is cut off.
body_hash=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d' ' -f1)
# Four lines are signed, and a fifth when there is a key.
signature=$(printf '%s\n%s\n%s\n%s' "$timestamp" "$method" "$path" "$body_hash${key:+
$key}" |
    openssl dgst -sha256 -hmac "$BATOFF_SECRET" -r | cut -d' ' -f1)

# The base may be given with /v1, as for the `batoff` command; the path has it.
base=${BATOFF_API%/}
base=${base%/v1}
set -- --silent --show-error --fail-with-body --request "$method" --config -
if [ -n "$body" ]; then
    set -- "$@" --header 'Content-Type: application/json' --data-binary "$body"
fi
if [ -n "$key" ]; then
    set -- "$@" --header "Idempotency-Key: $key"
fi
# The token comes in by standard input, so it is in nobody's list of processes.
curl "$@" "$base$path" <<HEADERS
header = "Authorization: Bearer $BATOFF_TOKEN"
header = "X-Batoff-Timestamp: $timestamp"
header = "X-Batoff-Signature: sha256=$signature"
HEADERS
