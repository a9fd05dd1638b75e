#!/usr/bin/env bash
# terraform init that also works where the Terraform registry can't be reached.
#
#   tests/terraform-init.sh DIR [options of terraform init]
#
# Providers come from the folder that MESH_AWS_TF_PLUGIN_DIR names (laid out as
# registry.terraform.io/hashicorp/aws/<version>/<platform>/), else from Terraform's own
# plugin folders, else from a folder two levels below / that holds registry.terraform.io,
# else from the registry.
set -euo pipefail

if [[ $# -lt 1 || ! -d $1 ]]; then
  echo "usage: $0 DIR [options of terraform init]; DIR is the folder with the .tf files" >&2
  exit 2
fi
dir=$1
shift

if ! command -v terraform >/dev/null; then
  echo "terraform is missing: install Terraform 1.11 or later (https://developer.hashicorp.com/terraform/install)" >&2
  exit 1
fi

if [[ -n ${TF_CLI_CONFIG_FILE:-} && ! -e $TF_CLI_CONFIG_FILE ]]; then
  unset TF_CLI_CONFIG_FILE
fi

provider=registry.terraform.io/hashicorp/aws

# Terraform looks in these folders by itself, and -plugin-dir would switch that off.
in_terraforms_own_folders() {
  local root roots
  IFS=: read -ra roots <<<"$HOME/.terraform.d/plugins:${XDG_DATA_HOME:-$HOME/.local/share}/terraform/plugins:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}"
  for root in "${roots[@]}"; do
    if [[ -d $root/$provider || -d $root/terraform/plugins/$provider ]]; then return 0; fi
  done
  return 1
}

plugin_dir=${MESH_AWS_TF_PLUGIN_DIR:-}
if [[ -n $plugin_dir && ! -d $plugin_dir/$provider ]]; then
  echo "MESH_AWS_TF_PLUGIN_DIR=$plugin_dir holds no $provider: correct it or unset it" >&2
  exit 1
fi
if [[ -z $plugin_dir ]] && ! in_terraforms_own_folders; then
  for found in /*/*/"$provider"; do
    if [[ -d $found ]]; then
      plugin_dir=${found%/"$provider"}
      break
    fi
  done
fi

exec terraform -chdir="$dir" init -input=false ${plugin_dir:+-plugin-dir="$plugin_dir"} "$@"
