data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  name       = "${var.name_prefix}-mesh"
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id
  account_id = data.aws_caller_identity.current.account_id

  tags = merge({ Application = "mesh-aws", MeshEnvironment = var.mesh_env }, var.tags)

  mesh_url = trimsuffix(coalesce(var.mesh_url, {
    local       = var.mesh_url
    integration = "https://msg.intspineservices.nhs.uk"
    production  = "https://mesh-sync.spineservices.nhs.uk"
  }[var.mesh_env]), "/")

  # Mailboxes in groups of five: EventBridge allows a rule five targets.
  mailbox_groups = chunklist(sort(var.mailbox_ids), 5)
  mailbox_group = merge([
    for index, ids in local.mailbox_groups : { for id in ids : id => index }
  ]...)
}

# The services that take on a role, for this account's resources alone.
data "aws_iam_policy_document" "assume" {
  for_each = toset(["events", "states"])

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

# What every state machine needs for its logs. These actions know no narrower resource.
data "aws_iam_policy_document" "log_delivery" {
  statement {
    sid = "DeliverLogs"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    resources = ["*"]
  }
}
