#!/usr/bin/env bash
# Validates the module and its examples, and runs the module's own tests, on a copy: Terraform writes into its folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here/../terraform" "$work/terraform"
# A plan needs the zips to be there; what is in them doesn't matter to it.
mkdir "$work/dist"
touch "$work"/dist/{poll,fetch-chunk,ack,send}.zip
find "$work" -name .terraform -prune -exec rm -r {} +

if [[ -n ${TF_CLI_CONFIG_FILE:-} && ! -e $TF_CLI_CONFIG_FILE ]]; then
  unset TF_CLI_CONFIG_FILE
fi
for root in "$work/terraform" "$work"/terraform/examples/*/; do
  echo "terraform validate: ${root#"$work/"}"
  "$here/terraform-init.sh" "$root" -backend=false >"$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
  terraform -chdir="$root" validate
done
terraform -chdir="$work/terraform" test
