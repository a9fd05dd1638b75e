# The least that a mailbox needs. Before the first poll, put the secrets into SSM (see the README):
# /<name_prefix>-mesh/mesh/MESH_CA_CERT, MESH_CLIENT_CERT, MESH_CLIENT_KEY, MESH_SHARED_KEY and
# /<name_prefix>-mesh/mesh/mailboxes/<mailbox>/MAILBOX_PASSWORD.

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
  mesh_url           = var.mesh_url
  mailbox_ids        = var.mailbox_ids
  cloudtrail_enabled = false # true only where rules that match CloudTrail's events depend on it
  force_destroy      = var.force_destroy
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
  description = "local, integration or production."
  default     = "integration"
}

variable "mesh_url" {
  type        = string
  description = "URL of MESH when mesh_env is local."
  default     = null
}

variable "mailbox_ids" {
  type        = set(string)
  description = "Mailboxes to receive from."
}

variable "force_destroy" {
  type        = bool
  description = "Whether `terraform destroy` may delete messages and rows."
  default     = false
}

output "mesh" {
  description = "The module's outputs: names and ARNs to use from outside."
  value       = module.mesh
}
