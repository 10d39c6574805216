#!/bin/sh
# Purges a URL and tags, and waits until no node can serve them any more. The `batoff` command signs by itself, tries
# again while the control plane is away, and waits for quotas.
#
#     export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
#     batoff.sh https://www.example.com/index.html product:42 category:shoes
set -eu
url=${1:?usage: batoff.sh URL [TAG…]}
shift
for tag in "$@"; do
    set -- "$@" --tag "$tag"
    shift
done
# One key for one purge. A deploy script takes the id of its deployment, and may run again without harm.
if [ -n "${BATOFF_KEY:-}" ]; then
    set -- "$@" --idempotency-key "$BATOFF_KEY"
fi
# Exit code 0: completed everywhere. 1: refused, with the reason, or not completed within 60 s. 75: try again later.
exec batoff purge --url "$url" "$@" --wait 60
