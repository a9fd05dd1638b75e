# What a team has that uses the replaced module: its block, with the lines for a VPC.

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
  mailbox_ids = ["X26T990", "X26T991"]

  mailboxes = [{
    id = "X26T991"
    outbound_mappings = [
      { dest_mailbox = "X26T992", workflow_id = "FIRST" },
      { dest_mailbox = "X26T993", workflow_id = "SECOND" },
    ]
  }]

  vpc_id                         = var.network.vpc
  subnet_ids                     = var.network.subnets
  aws_s3_endpoint_prefix_list_id = var.network.s3
  aws_ssm_endpoint_sg_id         = var.network.endpoints[0]
  aws_sfn_endpoint_sg_id         = var.network.endpoints[1]
  aws_logs_endpoints_sg_id       = var.network.endpoints[1]
  aws_kms_endpoints_sg_id        = var.network.endpoints[1]
  aws_lambda_endpoints_sg_id     = var.network.endpoints[1]
}

variable "network" {
  type        = object({ vpc = string, subnets = set(string), s3 = string, endpoints = list(string) })
  description = "Their VPC, its subnets, S3's prefix list and the security groups of two endpoints."
}

output "mesh" {
  value = module.mesh
}
