# What a team has that uses the replaced module: its block, nothing else.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {
  region = "eu-west-2"
}

module "mesh" {
  source = "./legacy"

  name_prefix = "moving"
  account_id  = "123456789012"
  mesh_env    = "local"
  subnet_ids  = []
  mailbox_ids = ["X26T990", "X26T991"]

  mailboxes = [{
    id = "X26T991"
    outbound_mappings = [
      { dest_mailbox = "X26T992", workflow_id = "FIRST" },
      { dest_mailbox = "X26T993", workflow_id = "SECOND" },
    ]
  }]
}

output "mesh" {
  value = module.mesh
}
