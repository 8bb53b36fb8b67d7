#!/usr/bin/env bash
# Shows that one environment works: it is alive, its database answers, and a commit that is pushed now is served.
# usage: infra/pipelines/deploy/smoke.sh RESOURCE_GROUP
# PROBE_URL, PROBE_NAME, PROBE_BRANCH: a repository for this alone, as Git and as Runtime Store know it
# RUNTIME_STORE_KEY: a reader key
source "$(dirname "$0")/outputs.sh"

: "${PROBE_URL:?}" "${PROBE_NAME:?}" "${PROBE_BRANCH:?}" "${RUNTIME_STORE_KEY:?}"
url=$(output url)

for path in livez health; do
  # A new instance may be starting.
  curl --fail --silent --show-error --retry 12 --retry-delay 5 --retry-all-errors --max-time 60 "$url/$path"
  echo "  $url/$path"
done

folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT
git clone --quiet --depth 1 --branch "$PROBE_BRANCH" "$PROBE_URL" "$folder"
cat >"$folder/probe_runtime.yaml" <<END
workflow:
  id: probe
  description: "Pushed at $(date --utc +%FT%TZ)"
  enabled: false
  jobs: []
END
git -C "$folder" add probe_runtime.yaml
git -C "$folder" -c user.name=smoke -c user.email=smoke@localhost commit --quiet --message "A probe of Runtime Store"
git -C "$folder" push --quiet origin "HEAD:$PROBE_BRANCH"
RUNTIME_STORE_URL=$url runtime-store wait --repository "$PROBE_NAME" --branch "$PROBE_BRANCH" \
  --commit "$(git -C "$folder" rev-parse HEAD)" --timeout 300
