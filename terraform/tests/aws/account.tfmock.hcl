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

# ARNs, for the runs that look at what holds them: the provider checks their form. Of a partition that is none, so that
# they are told from those that the module puts together.

mock_resource "aws_cloudwatch_event_rule" {
  defaults = { arn = "arn:aws-mock:events::123456789012:rule/mock" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws-mock:logs::123456789012:log-group:mock" }
}

mock_resource "aws_dynamodb_table" {
  defaults = { arn = "arn:aws-mock:dynamodb::123456789012:table/mock" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws-mock:iam::123456789012:role/mock" }
}

mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws-mock:kms::123456789012:key/mock" }
}

mock_resource "aws_lambda_function" {
  defaults = { arn = "arn:aws-mock:lambda::123456789012:function:mock", qualified_arn = "arn:aws-mock:lambda::123456789012:function:mock:1" }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws-mock:s3:::mock", id = "mock" }
}

mock_resource "aws_security_group" {
  defaults = { arn = "arn:aws-mock:ec2::123456789012:security-group/sg-mock" }
}

mock_resource "aws_sfn_state_machine" {
  defaults = { arn = "arn:aws-mock:states::123456789012:stateMachine:mock" }
}

mock_resource "aws_sqs_queue" {
  defaults = { arn = "arn:aws-mock:sqs::123456789012:mock", url = "https://sqs.mock/123456789012/mock" }
}
