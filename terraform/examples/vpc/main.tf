# The functions in subnets of your VPC, which must have a way to the internet (MESH is there): a NAT gateway, say. The security
# groups that the module makes let them reach MESH's addresses and AWS's endpoints, nothing else.

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

  vpc_id     = var.vpc_id
  subnet_ids = var.subnet_ids

  aws_s3_endpoint_prefix_list_id = aws_vpc_endpoint.gateway["s3"].prefix_list_id
  aws_ssm_endpoint_sg_id         = aws_security_group.endpoints.id
  aws_sfn_endpoint_sg_id         = aws_security_group.endpoints.id
}

# Without endpoints, what the functions ask of AWS would leave the VPC, and the module's security groups would not let it.

resource "aws_vpc_endpoint" "gateway" {
  for_each          = toset(["dynamodb", "s3"])
  vpc_id            = var.vpc_id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${var.region}.${each.key}"
  route_table_ids   = var.route_table_ids
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = toset(["ssm", "states"])
  vpc_id              = var.vpc_id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name_prefix}-endpoints"
  description = "AWS endpoints that the MESH functions call"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = {
    get_messages = module.mesh.get_messages_sg_id
    poll_mailbox = module.mesh.poll_mailbox_sg_id
    send_message = module.mesh.send_message_sg_id
  }
  security_group_id            = aws_security_group.endpoints.id
  description                  = each.key
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = each.value
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

variable "vpc_id" {
  type        = string
  description = "VPC to run the functions in; its DNS support and DNS host names must be on."
}

variable "subnet_ids" {
  type        = set(string)
  description = "Its private subnets to run the functions in, in two availability zones or more."
}

variable "route_table_ids" {
  type        = set(string)
  description = "Route tables of these subnets."
}

output "mesh" {
  description = "The module's outputs: names and ARNs to use from outside."
  value       = module.mesh
}
