#!/usr/bin/env bash
# Validates the module and runs its tests, which plan each example, on a copy: Terraform writes into its folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The tests' mocks use override_during, which 1.11 brought; the module itself does with 1.9.
read -r installed < <(terraform version)
if ! printf 'Terraform v1.11\n%s\n' "$installed" | sort -VC; then
  echo "the module's tests need Terraform 1.11 or later, and $installed is installed: https://developer.hashicorp.com/terraform/install" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here/../terraform" "$work/terraform"
# A plan needs the zips to be there; what is in them doesn't matter to it.
mkdir "$work/dist"
touch "$work"/dist/{poll,fetch-chunk,ack,send,track}.zip
find "$work" -name .terraform -prune -exec rm -r {} +

if [[ -n ${TF_CLI_CONFIG_FILE:-} && ! -e $TF_CLI_CONFIG_FILE ]]; then
  unset TF_CLI_CONFIG_FILE
fi
"$here/terraform-init.sh" "$work/terraform" -backend=false >"$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
terraform -chdir="$work/terraform" validate
terraform -chdir="$work/terraform" test
