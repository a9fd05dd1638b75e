#!/usr/bin/env bash
# Validates the state machine definitions against the Amazon States Language.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

for tool in node npm python3 sha256sum; do
  command -v "$tool" >/dev/null || {
    echo "$tool is missing: install it (node and npm: version 20 or later) and run again" >&2
    exit 1
  }
done

hash=$(sha256sum "$here/package-lock.json" | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mesh-aws/asl-$hash
mkdir -p "$(dirname "$cache")"
work=$(mktemp -d -p "$(dirname "$cache")")
trap 'rm -rf "$work"' EXIT

# Complete or not there at all, also when several runs install at once.
if [[ ! -d $cache ]]; then
  mkdir "$work/npm"
  cp "$here/package.json" "$here/package-lock.json" "$work/npm"
  npm ci --prefix "$work/npm" --no-audit --no-fund --loglevel=error
  mv -T "$work/npm" "$cache" 2>/dev/null || [[ -d $cache ]]
fi

mkdir "$work/rendered"
python3 "$here/render.py" "$work/rendered"
arguments=()
for file in "$work"/rendered/*.asl.json; do
  arguments+=(--json-path "$file")
done
"$cache/node_modules/.bin/asl-validator" "${arguments[@]}"
