# Wrong values are refused by the plan, right at the edge.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "defaults_plan" {
  command = plan

  assert {
    condition     = local.mesh_url == "https://msg.intspineservices.nhs.uk"
    error_message = "URL of the environment"
  }
}

run "the_least_allowed_values_plan" {
  command = plan

  variables {
    mesh_env                      = "local"
    mesh_url                      = "https://localhost:8700/"
    chunk_size                    = 1
    compress_threshold            = 0
    compression_level             = 1
    cloudwatch_retention_in_days  = 0
    fetch_batch_size              = 1
    get_message_max_concurrency   = 1
    get_messages_page_limit       = 1
    max_attempts                  = 1
    max_message_size              = 1
    mesh_s3_object_expiry_in_days = 1
    message_row_retention_in_days = 15
    name_prefix                   = "d"
    s3logs_retention_in_days      = 1
    uncertain_send_wait_seconds   = 1
    verify_ssl                    = false
  }

  assert {
    condition     = local.mesh_url == "https://localhost:8700"
    error_message = "the functions append paths: no slash at the end"
  }
}

run "the_greatest_allowed_values_plan" {
  command = plan

  variables {
    chunk_size                       = 99614720
    compression_level                = 9
    fetch_batch_size                 = 10
    fetch_message_lambda_memory_size = 10240
    get_message_max_concurrency      = 40
    get_messages_page_limit          = 500
    mailbox_ids                      = [join("", [for number in range(50) : "X"])]
    mailboxes                        = [{ id = join("", [for number in range(50) : "X"]), outbound_mappings = [] }]
    max_attempts                     = 100
    max_message_size                 = 125829120000
    message_row_retention_in_days    = 36500
    name_prefix                      = "abcdefghijklmnopqrstuvwxyz1234"
    send_message_lambda_memory_size  = 10240
    uncertain_send_wait_seconds      = 86400
  }

  assert {
    condition     = length("${local.get_messages_name}-handshake-event") == 64
    error_message = "the longest role name fits"
  }

  assert {
    condition     = alltrue([for target in concat(values(aws_cloudwatch_event_target.get_messages), values(aws_cloudwatch_event_target.get_messages_handshake)) : length(target.target_id) <= 64])
    error_message = "so does the longest id of a target"
  }
}

run "values_below_are_refused" {
  command = plan

  variables {
    accept_encoding               = "GZIP"
    chunk_size                    = 0
    compress_threshold            = -1
    compression_level             = 0
    cloudwatch_retention_in_days  = 2
    fetch_batch_size              = 0
    get_message_max_concurrency   = 0
    get_messages_page_limit       = 0
    get_messages_schedule         = "1 minute"
    handshake_schedule            = "hourly"
    log_level                     = "info"
    mailbox_ids                   = ["x26abc1"]
    max_attempts                  = 0
    max_message_size              = 0
    mesh_env                      = "local"
    mesh_s3_object_expiry_in_days = 0
    message_row_retention_in_days = 14
    name_prefix                   = ""
    on_uncertain_send             = "drop"
    s3logs_retention_in_days      = 0
    uncertain_send_wait_seconds   = 0
  }

  expect_failures = [
    var.accept_encoding,
    var.chunk_size,
    var.compress_threshold,
    var.compression_level,
    var.cloudwatch_retention_in_days,
    var.fetch_batch_size,
    var.get_message_max_concurrency,
    var.get_messages_page_limit,
    var.get_messages_schedule,
    var.handshake_schedule,
    var.log_level,
    var.mailbox_ids,
    var.max_attempts,
    var.max_message_size,
    var.mesh_s3_object_expiry_in_days,
    var.mesh_url,
    var.message_row_retention_in_days,
    var.name_prefix,
    var.on_uncertain_send,
    var.s3logs_retention_in_days,
    var.uncertain_send_wait_seconds,
  ]
}

run "values_above_are_refused" {
  command = plan

  variables {
    chunk_size                       = 99614721
    compression_level                = 10
    fetch_batch_size                 = 11
    fetch_message_lambda_memory_size = 10241
    get_message_max_concurrency      = 41
    get_messages_page_limit          = 501
    mailbox_ids                      = [join("", [for number in range(51) : "X"])]
    mailboxes                        = [{ id = join("", [for number in range(51) : "X"]), outbound_mappings = [] }]
    max_attempts                     = 101
    max_message_size                 = 125829120001
    message_row_retention_in_days    = 36501
    mesh_env                         = "production"
    mesh_url                         = "http://localhost:8700"
    name_prefix                      = "abcdefghijklmnopqrstuvwxyz12345"
    send_message_lambda_memory_size  = 10241
    uncertain_send_wait_seconds      = 86401
    verify_ssl                       = false
  }

  expect_failures = [
    var.chunk_size,
    var.compression_level,
    var.fetch_batch_size,
    var.fetch_message_lambda_memory_size,
    var.get_message_max_concurrency,
    var.get_messages_page_limit,
    var.mailbox_ids,
    var.mailboxes,
    var.max_attempts,
    var.max_message_size,
    var.mesh_url,
    var.message_row_retention_in_days,
    var.name_prefix,
    var.send_message_lambda_memory_size,
    var.uncertain_send_wait_seconds,
    var.verify_ssl,
  ]
}

run "a_hyphen_first_is_refused" {
  command = plan

  variables {
    name_prefix = "-live"
  }

  expect_failures = [var.name_prefix]
}

run "a_hyphen_last_is_refused" {
  command = plan

  variables {
    name_prefix = "live-"
  }

  expect_failures = [var.name_prefix]
}

run "upper_case_is_refused" {
  command = plan

  variables {
    mailboxes   = [{ id = "x26abc1", outbound_mappings = [] }]
    name_prefix = "Live"
  }

  expect_failures = [var.mailboxes, var.name_prefix]
}

run "fractions_are_refused" {
  command = plan

  variables {
    access_logs_retention_in_days    = 1.5
    chunk_size                       = 1.5
    compress_threshold               = 1.5
    compression_level                = 1.5
    fetch_batch_size                 = 1.5
    fetch_message_lambda_memory_size = 128.5
    get_message_max_concurrency      = 1.5
    get_messages_page_limit          = 1.5
    max_attempts                     = 1.5
    max_message_size                 = 1.5
    memory                           = { poll_mailbox = 128.5 }
    mesh_s3_object_expiry_in_days    = 1.5
    message_row_retention_in_days    = 15.5
    s3logs_retention_in_days         = 1.5
    send_max_concurrency             = 1.5
    send_message_lambda_memory_size  = 128.5
    timeout                          = { poll_mailbox = 120.5 }
    uncertain_send_wait_seconds      = 1.5
  }

  expect_failures = [
    var.access_logs_retention_in_days,
    var.chunk_size,
    var.compress_threshold,
    var.compression_level,
    var.fetch_batch_size,
    var.fetch_message_lambda_memory_size,
    var.get_message_max_concurrency,
    var.get_messages_page_limit,
    var.max_attempts,
    var.max_message_size,
    var.memory,
    var.mesh_s3_object_expiry_in_days,
    var.message_row_retention_in_days,
    var.s3logs_retention_in_days,
    var.send_max_concurrency,
    var.send_message_lambda_memory_size,
    var.timeout,
    var.uncertain_send_wait_seconds,
  ]
}

run "a_url_with_a_path_is_refused" {
  command = plan

  variables {
    mesh_url = "https://localhost:8700/messageexchange"
  }

  expect_failures = [var.mesh_url]
}

run "an_unknown_environment_is_refused" {
  command = plan

  variables {
    mesh_env = "live"
  }

  expect_failures = [var.mesh_env]
}
