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

  log_retention_in_days = coalesce(var.cloudwatch_retention_in_days, 0)

  permissions_boundary = var.permissions_boundary == null ? var.permissions_boundary_arn : var.permissions_boundary

  # Known while planning even where the ids of the network are not yet.
  in_vpc = length(var.subnet_ids) > 0

  # Mailboxes in groups of five: EventBridge allows a rule five targets.
  mailbox_groups = chunklist(sort(var.mailbox_ids), 5)
  mailbox_group = merge([
    for index, ids in local.mailbox_groups : { for id in ids : id => index }
  ]...)
}

# The services that take on a role, for this account's resources alone. Lambda and CloudTrail don't document that
# they say for whom, and take no role of another account.
data "aws_iam_policy_document" "assume" {
  for_each = { cloudtrail = false, events = true, lambda = false, states = true }

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }
    dynamic "condition" {
      for_each = each.value ? [local.account_id] : []
      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

# X-Ray's actions know no narrower resource. Lambda decides by itself what is sampled.
data "aws_iam_policy_document" "tracing" {
  for_each = {
    function      = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    state_machine = ["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"]
  }

  dynamic "statement" {
    for_each = var.tracing_enabled ? ["Trace"] : []
    content {
      sid       = statement.value
      actions   = each.value
      resources = ["*"]
    }
  }
}

# What every state machine needs for its logs and traces. The actions know no narrower resource.
data "aws_iam_policy_document" "state_machine" {
  source_policy_documents = [data.aws_iam_policy_document.tracing["state_machine"].json]

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
