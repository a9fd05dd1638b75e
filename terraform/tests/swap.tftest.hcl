# What a team that comes from the NHS's module has beside the names of interface.tftest.hcl.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "live-example"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "variables_of_2_1_6_have_their_effect" {
  command = plan

  variables {
    fetch_message_lambda_memory_size = 512
    send_message_lambda_memory_size  = 1024
    permissions_boundary_arn         = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = [aws_lambda_function.fetch_message_chunk.memory_size, aws_lambda_function.send_message_chunk.memory_size] == [512, 1024]
    error_message = "memory of the functions"
  }

  assert {
    condition     = local.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "what bounds every role, as every_role_has_the_boundary sees"
  }
}

run "two_boundaries_are_refused" {
  command = plan

  variables {
    permissions_boundary     = "arn:aws:iam::123456789012:policy/one"
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/another"
  }

  expect_failures = [var.permissions_boundary_arn]
}

run "values_below_are_refused" {
  command = plan

  variables {
    access_logs_retention_in_days    = 0
    fetch_message_lambda_memory_size = 127
    send_message_lambda_memory_size  = 127
    permissions_boundary_arn         = "boundary"
  }

  expect_failures = [
    var.access_logs_retention_in_days,
    var.fetch_message_lambda_memory_size,
    var.send_message_lambda_memory_size,
    var.permissions_boundary_arn,
  ]
}

# There it is the provider's null: lines never expire.
run "lines_that_were_kept_for_ever_stay" {
  command = plan

  variables {
    cloudwatch_retention_in_days                = null
    cloudtrail_cloudwatch_log_retention_in_days = null
  }

  assert {
    condition = alltrue([
      for group in [
        aws_cloudwatch_log_group.poll_mailbox, aws_cloudwatch_log_group.fetch_message_chunk, aws_cloudwatch_log_group.acknowledge_message,
        aws_cloudwatch_log_group.send_message_chunk, aws_cloudwatch_log_group.track_message, aws_cloudwatch_log_group.check_send_parameters,
        aws_cloudwatch_log_group.get_messages, aws_cloudwatch_log_group.send_message, aws_cloudwatch_log_group.track_messages,
        aws_cloudwatch_log_group.mesh_cloudtrail[0],
      ] : group.retention_in_days == 0
    ])
    error_message = "0 is for ever"
  }
}

run "access_logs_that_were_kept_stay" {
  command = plan

  variables {
    s3logs_retention_in_days = 8
  }

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.s3logs.rule : rule.filter[0].prefix => rule.expiration[0].days if length(rule.expiration) > 0
    } == { "AWSLogs/" = 8, "cloudtrail/" = 8 }
    error_message = "what expires in the bucket of logs"
  }
}

run "access_logs_expire_if_the_caller_wants" {
  command = plan

  variables {
    access_logs_retention_in_days = 30
  }

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.s3logs.rule : rule.filter[0].prefix => rule.expiration[0].days if length(rule.expiration) > 0
    } == { "AWSLogs/" = 7, "bucket_logs/" = 30, "cloudtrail/" = 7 }
    error_message = "what expires in the bucket of logs"
  }
}
