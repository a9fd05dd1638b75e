# The functions in a VPC. Three security groups, as in the NHS's module: what an endpoint lets in by its
# outputs stays let in.

locals {
  # What the NHS publishes for each environment.
  environment_cidr_blocks = {
    local = []
    integration = [
      "3.11.177.31/32", "35.177.15.89/32", "3.11.199.83/32", "35.178.64.126/32", "18.132.113.121/32", "18.132.31.159/32",
    ]
    production = [
      "18.132.56.40/32", "3.11.193.200/32", "35.176.248.137/32", "3.10.194.216/32", "35.176.231.190/32", "35.179.50.16/32",
    ]
  }
  mesh_cidr_blocks = sort(coalesce(var.mesh_cidr_blocks, toset(local.environment_cidr_blocks[var.mesh_env])))
  mesh_port        = try(tonumber(regex(":([0-9]+)$", local.mesh_url)[0]), 443)

  # AWS's endpoints, for any function: the three groups differ only in S3, and in Step Functions.
  endpoint_sg_ids = [
    var.aws_ssm_endpoint_sg_id,
    var.aws_secrets_endpoints_sg_id,
    var.aws_logs_endpoints_sg_id,
    var.aws_kms_endpoints_sg_id,
    var.aws_lambda_endpoints_sg_id,
  ]
}

# A VPC reaches DynamoDB by a gateway endpoint: its addresses are a prefix list that AWS keeps.
data "aws_ec2_managed_prefix_list" "dynamodb" {
  count = local.in_vpc ? 1 : 0
  name  = "com.amazonaws.${local.region}.dynamodb"
}

# Rules inside the groups: as resources of their own, AWS would refuse them as long as those of the NHS's module
# are there, and Terraform keeps no order between the two.

resource "aws_security_group" "poll_mailbox" {
  count       = local.in_vpc ? 1 : 0
  name        = local.function_name.poll_mailbox
  description = "What the function ${local.function_name.poll_mailbox} may reach"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = local.function_name.poll_mailbox })

  egress {
    description = "MESH"
    protocol    = "tcp"
    from_port   = local.mesh_port
    to_port     = local.mesh_port
    cidr_blocks = local.mesh_cidr_blocks
  }

  egress {
    description     = "Endpoints of AWS"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    security_groups = compact(local.endpoint_sg_ids)
  }

  egress {
    description     = "DynamoDB"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    prefix_list_ids = [data.aws_ec2_managed_prefix_list.dynamodb[0].id]
  }

  # AWS can't change a description, only replace the group: one that was made by the NHS's module keeps its own.
  lifecycle {
    ignore_changes = [description]
  }
}

resource "aws_security_group" "fetch_message_chunk" {
  count       = local.in_vpc ? 1 : 0
  name        = local.function_name.fetch_message_chunk
  description = "What the functions that store and acknowledge messages of ${local.name} may reach"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = local.function_name.fetch_message_chunk })

  egress {
    description = "MESH"
    protocol    = "tcp"
    from_port   = local.mesh_port
    to_port     = local.mesh_port
    cidr_blocks = local.mesh_cidr_blocks
  }

  egress {
    description     = "Endpoints of AWS"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    security_groups = compact(local.endpoint_sg_ids)
  }

  egress {
    description     = "S3 and DynamoDB"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    prefix_list_ids = [var.aws_s3_endpoint_prefix_list_id, data.aws_ec2_managed_prefix_list.dynamodb[0].id]
  }

  lifecycle {
    ignore_changes = [description]
  }
}

resource "aws_security_group" "send_message_chunk" {
  count       = local.in_vpc ? 1 : 0
  name        = local.function_name.send_message_chunk
  description = "What the functions that send and follow up messages of ${local.name} may reach"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = local.function_name.send_message_chunk })

  egress {
    description = "MESH"
    protocol    = "tcp"
    from_port   = local.mesh_port
    to_port     = local.mesh_port
    cidr_blocks = local.mesh_cidr_blocks
  }

  egress {
    description     = "Endpoints of AWS"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    security_groups = compact(concat(local.endpoint_sg_ids, [var.aws_sfn_endpoint_sg_id]))
  }

  egress {
    description     = "S3 and DynamoDB"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    prefix_list_ids = [var.aws_s3_endpoint_prefix_list_id, data.aws_ec2_managed_prefix_list.dynamodb[0].id]
  }

  lifecycle {
    ignore_changes = [description]
  }
}
