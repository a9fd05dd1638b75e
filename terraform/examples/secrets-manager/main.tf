# The client key, the shared key and the passwords in Secrets Manager, encrypted with a key of your own. Terraform makes the
# secrets without a value, so that none gets into its state. The certificates, MESH_CA_CERT and MESH_CLIENT_CERT, are in SSM (see
# the README). Put the values right after the first apply, from files that end without a line break: until then the hourly
# handshakes fail, and an alarm says so.
#
#   for secret in MESH_CLIENT_KEY MESH_SHARED_KEY mailboxes/<mailbox>/MAILBOX_PASSWORD; do
#     aws secretsmanager put-secret-value --secret-id "/<name_prefix>-mesh/mesh/$secret" --secret-string "file://${secret##*/}"
#   done
#
# Then set get_messages_enabled to true and apply again: polls begin.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.27, < 7"
    }
  }
}

provider "aws" {
  region = var.region
}

module "mesh" {
  source = "../.."

  name_prefix        = var.name_prefix
  mesh_env           = var.mesh_env
  mailbox_ids        = var.mailbox_ids
  cloudtrail_enabled = false

  get_messages_enabled = var.get_messages_enabled
  use_secrets_manager  = true
  secrets_kms_key_arns = [aws_kms_key.secrets.arn]
}

resource "aws_secretsmanager_secret" "mesh" {
  #checkov:skip=CKV2_AWS_57:MESH's keys and passwords are issued by the NHS; no function can rotate them
  for_each = toset(concat(
    ["MESH_CLIENT_KEY", "MESH_SHARED_KEY"],
    [for id in setunion(var.mailbox_ids, var.sending_mailbox_ids) : "mailboxes/${id}/MAILBOX_PASSWORD"],
  ))
  name       = "/${var.name_prefix}-mesh/mesh/${each.key}"
  kms_key_id = aws_kms_key.secrets.arn
}

resource "aws_kms_key" "secrets" {
  description         = "${var.name_prefix} MESH secrets"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.secrets.json
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

# The account's IAM policies decide, among them those of the module's functions.
data "aws_iam_policy_document" "secrets" {
  #checkov:skip=CKV_AWS_109:A key's policy has no other resource than the key
  #checkov:skip=CKV_AWS_111:A key's policy has no other resource than the key
  #checkov:skip=CKV_AWS_356:A key's policy has no other resource than the key
  statement {
    sid       = "AccountDecidesByIam"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }
}

variable "region" {
  type        = string
  description = "AWS region."
  default     = "eu-west-2"
}

variable "name_prefix" {
  type        = string
  description = "Every resource is named `<name_prefix>-mesh…`."
}

variable "mesh_env" {
  type        = string
  description = "integration or production."
  default     = "integration"
}

variable "mailbox_ids" {
  type        = set(string)
  description = "Mailboxes to receive from."
}

variable "get_messages_enabled" {
  type        = bool
  description = "Whether mailboxes are polled: once the secrets have their values."
  default     = false
}

variable "sending_mailbox_ids" {
  type        = set(string)
  description = "Further mailboxes, that only send."
  default     = []
}

output "mesh" {
  description = "The module's outputs: names and ARNs to use from outside."
  value       = module.mesh
}
