# An account and a region, for the runs that look at ARNs.

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_region" {
  defaults = { id = "eu-west-2", name = "eu-west-2" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_iam_policy_document" {
  defaults = { json = "{}" }
}

mock_data "aws_ec2_managed_prefix_list" {
  defaults = { id = "pl-dynamodb" }
}
