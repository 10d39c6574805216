#!/usr/bin/env bash
# Purges a URL and tags, and waits until no node can serve them any more. bash, curl and openssl are all it needs.
#
#     export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
#     purge.sh https://www.example.com/index.html product:42 category:shoes
set -euo pipefail
: "${BATOFF_API:?}" "${BATOFF_SITE:?}" "${BATOFF_TOKEN:?}" "${BATOFF_SECRET:?}" "${1:?usage: purge.sh URL [TAG…]}"

answer=$(mktemp)
trap 'rm -f "$answer" "$answer.headers"' EXIT

# send METHOD TARGET [BODY [KEY]]: one request, signed over the very bytes that are sent. Its answer is in $answer.
# Each try is signed anew; the key makes all of them one purge.
send() {
    local method=$1 target=$2 body=${3-} key=${4-} attempt time hash signature status pause headers
    for attempt in 1 2 4 8 0; do
        time=$(date +%s.%N)
        hash=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d' ' -f1)
        signature=$(printf '%s\n%s\n%s\n%s' "$time" "$method" "$target" "$hash${key:+$'\n'$key}" |
            openssl dgst -sha256 -hmac "$BATOFF_SECRET" -r | cut -d' ' -f1)
        headers=("X-Batoff-Timestamp: $time" "X-Batoff-Signature: sha256=$signature")
        [ -z "$body" ] || headers+=("Content-Type: application/json")
        [ -z "$key" ] || headers+=("Idempotency-Key: $key")
        # The token comes in by standard input, so it is in nobody's list of processes. 000 is no answer at all.
        status=$(printf 'header = "Authorization: Bearer %s"\n' "$BATOFF_TOKEN" |
            curl --silent --show-error --max-time 60 --config - --request "$method" "${headers[@]/#/-H}" \
                ${body:+--data-binary "$body"} --output "$answer" --dump-header "$answer.headers" \
                --write-out '%{http_code}' "${BATOFF_API%/}$target") || status=000
        case $status in
        2??) return 0 ;;
        000 | 429 | 503) ;;
        *) break ;;
        esac
        [ "$attempt" -gt 0 ] || break
        pause=$(sed -n 's/^retry-after: *\([0-9]*\).*/\1/ip' "$answer.headers" 2>/dev/null || true)
        sleep "${pause:-$attempt}"
    done
    # What a refusal says: application/problem+json, RFC 9457.
    if [ "$status" = 000 ]; then
        echo "$BATOFF_API cannot be reached" >&2
    else
        printf '%s (%s %s): %s\n' "$(text title)" "$status" "$(text code)" "$(text detail)" >&2
    fi
    exit 1
}

# text MEMBER: the first string of that name in the answer. A script that has jq takes `jq -r .MEMBER`.
text() { grep -o "\"$1\" *: *\"\([^\"\\\\]\|\\\\.\)*\"" "$answer" | head -n 1 | sed 's/^[^:]*: *"//; s/"$//; s/\\"/"/g'; }

# quoted STRING: as it stands in JSON.
quoted() { local s=${1//\\/\\\\}; printf '"%s"' "${s//\"/\\\"}"; }

tags=''
for tag in "${@:2}"; do tags+=${tags:+,}$(quoted "$tag"); done
purges=/v1/sites/$BATOFF_SITE/purge
# One key for one purge. A deploy script takes the id of its deployment, and may run again without harm.
key=${BATOFF_KEY:-$(openssl rand -hex 16)}
send POST "$purges" "{\"urls\":[$(quoted "$1")],\"tags\":[$tags]}" "$key"
task=$(text task_id)
echo "$task" # from here on it takes effect, whatever happens to this script

deadline=$((SECONDS + 60))
until [ "$(text state)" = completed ]; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "not completed after 60 s: $(cat "$answer")" >&2; exit 1; }
    # The answer is held until it is completed, at most 20 s. The query is a part of what is signed.
    send GET "$purges/$task?wait=20"
done
echo "completed in $(grep -o '"propagation_ms" *: *[0-9]*' "$answer" | grep -o '[0-9]*$') ms"
