# What an account's rules ask for: names, tags, bounds, sizes, protection, tracing, policies.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "by_default" {
  command = plan

  assert {
    condition = {
      for name, lifecycle in { messages = aws_s3_bucket_lifecycle_configuration.mesh, logs = aws_s3_bucket_lifecycle_configuration.s3logs } :
      name => { for rule in lifecycle.rule : rule.id => join(" ", concat([rule.status], rule.abort_incomplete_multipart_upload[*].days_after_initiation)) }
      } == {
      messages = { AbortUploads = "Enabled 7", ExpireMeshObjects = "Disabled" }
      logs     = { AbortUploads = "Enabled 7", AWSLogs = "Enabled", cloudtrail = "Enabled" }
    }
    error_message = "no message expires, and no upload stays incomplete"
  }

  assert {
    condition     = aws_dynamodb_table.messages.deletion_protection_enabled && aws_dynamodb_table.leases.deletion_protection_enabled && aws_kms_key.mesh.deletion_window_in_days == 30
    error_message = "tables and key are protected"
  }

  assert {
    condition = alltrue([
      for function in [
        aws_lambda_function.poll_mailbox, aws_lambda_function.fetch_message_chunk, aws_lambda_function.acknowledge_message,
        aws_lambda_function.send_message_chunk, aws_lambda_function.track_message,
      ] : one(function.architectures) == "x86_64" && function.tracing_config[0].mode == "PassThrough"
    ])
    error_message = "x86_64, not traced"
  }

  assert {
    condition     = alltrue([for text in values(local.zip_is_missing) : strcontains(text, "run `make build` in")])
    error_message = "what makes its zips"
  }

  assert {
    condition     = alltrue([for document in values(data.aws_iam_policy_document.tracing) : length(document.statement) == 0])
    error_message = "nothing may trace"
  }

  assert {
    condition = [
      for statement in concat(data.aws_iam_policy_document.own_key.statement, data.aws_iam_policy_document.trail_key[0].statement) :
      statement.sid if strcontains(join(" ", statement.actions), "*")
    ] == ["AccountDecidesByIam"]
    error_message = "services use the key by actions that are named"
  }

  assert {
    condition     = aws_s3_bucket_notification.mesh[0].eventbridge && one(aws_s3_bucket_server_side_encryption_configuration.mesh.rule).bucket_key_enabled
    error_message = "events and bucket keys are on"
  }
}

run "the_other_way_round" {
  command = plan

  variables {
    architecture                = "arm64"
    function_zips_dir           = "../dist"
    bucket_key_enabled          = false
    deletion_protection         = false
    log_level                   = "DEBUG"
    manage_bucket_notifications = false
    tracing_enabled             = true
    memory                      = { poll_mailbox = 128, fetch_message_chunk = 10240, acknowledge_message = 129, send_message_chunk = 130, track_message = 131 }
    timeout                     = { poll_mailbox = 121, fetch_message_chunk = 890, acknowledge_message = 123, send_message_chunk = 900, track_message = 125 }
  }

  assert {
    condition     = !aws_dynamodb_table.messages.deletion_protection_enabled && !aws_dynamodb_table.leases.deletion_protection_enabled
    error_message = "the tables are not protected"
  }

  assert {
    condition = alltrue([
      for function in [
        aws_lambda_function.poll_mailbox, aws_lambda_function.fetch_message_chunk, aws_lambda_function.acknowledge_message,
        aws_lambda_function.send_message_chunk, aws_lambda_function.track_message,
      ] : one(function.architectures) == "arm64" && function.tracing_config[0].mode == "Active" && function.environment[0].variables["LOG_LEVEL"] == "DEBUG"
    ])
    error_message = "arm64, traced, talkative"
  }

  assert {
    condition     = alltrue([for text in values(local.zip_is_missing) : strcontains(text, "run `ARCH=arm64 make build` in")])
    error_message = "what makes its zips"
  }

  assert {
    condition = alltrue([
      for machine in [aws_sfn_state_machine.get_messages, aws_sfn_state_machine.send_message, aws_sfn_state_machine.track_messages] :
      machine.tracing_configuration[0].enabled
    ])
    error_message = "state machines are traced"
  }

  assert {
    condition = { for name, document in data.aws_iam_policy_document.tracing : name => sort(one(document.statement).actions) } == {
      function      = tolist(["xray:PutTelemetryRecords", "xray:PutTraceSegments"])
      state_machine = tolist(["xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"])
    }
    error_message = "what tracing needs"
  }

  assert {
    condition     = length(aws_s3_bucket_notification.mesh) == 0 && !one(aws_s3_bucket_server_side_encryption_configuration.mesh.rule).bucket_key_enabled
    error_message = "the consumer's notifications, no bucket keys"
  }

  assert {
    condition = {
      for name, function in {
        poll_mailbox        = aws_lambda_function.poll_mailbox
        fetch_message_chunk = aws_lambda_function.fetch_message_chunk
        acknowledge_message = aws_lambda_function.acknowledge_message
        send_message_chunk  = aws_lambda_function.send_message_chunk
        track_message       = aws_lambda_function.track_message
      } : name => join(" ", [function.memory_size, function.timeout])
      } == {
      poll_mailbox        = "128 121"
      fetch_message_chunk = "10240 890"
      acknowledge_message = "129 123"
      send_message_chunk  = "130 900"
      track_message       = "131 125"
    }
    error_message = "memory and timeout of each function"
  }
}

run "demos_may_be_deleted" {
  command = plan

  variables {
    force_destroy = true
  }

  assert {
    condition     = !aws_dynamodb_table.messages.deletion_protection_enabled && aws_s3_bucket.mesh.force_destroy && aws_s3_bucket.s3logs.force_destroy && aws_kms_key.mesh.deletion_window_in_days == 7
    error_message = "nothing stands in the way"
  }
}

run "protection_may_be_kept" {
  command = plan

  variables {
    force_destroy       = true
    deletion_protection = true
  }

  assert {
    condition     = aws_dynamodb_table.messages.deletion_protection_enabled && aws_dynamodb_table.leases.deletion_protection_enabled
    error_message = "what is said counts"
  }
}

run "every_role_has_the_boundary" {
  command = plan

  variables {
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition = alltrue([
      for role in [
        aws_iam_role.poll_mailbox, aws_iam_role.fetch_message_chunk, aws_iam_role.acknowledge_message, aws_iam_role.send_message_chunk,
        aws_iam_role.track_message, aws_iam_role.get_messages, aws_iam_role.send_message, aws_iam_role.track_messages,
        aws_iam_role.get_messages_event, aws_iam_role.get_messages_handshake_event, aws_iam_role.send_message_event,
        aws_iam_role.track_messages_event, aws_iam_role.mesh_cloudtrail_to_cloudwatch_role[0],
      ] : role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    ])
    error_message = "a role without it"
  }
}

run "everything_is_named_and_tagged" {
  command = plan

  variables {
    tags                           = { Owner = "pathology", Application = "results" }
    vpc_id                         = "vpc-1"
    subnet_ids                     = ["subnet-1"]
    aws_s3_endpoint_prefix_list_id = "pl-s3"
    aws_ssm_endpoint_sg_id         = "sg-ssm"
    aws_sfn_endpoint_sg_id         = "sg-sfn"
  }

  assert {
    condition = toset(flatten([
      [for resource in [aws_s3_bucket.mesh, aws_s3_bucket.s3logs] : "${resource.bucket} ${jsonencode(resource.tags)}"],
      [for resource in [aws_dynamodb_table.messages, aws_dynamodb_table.leases] : "${resource.name} ${jsonencode(resource.tags)}"],
      [for resource in [aws_kms_key.mesh] : "${resource.description} ${jsonencode(resource.tags)}"],
      [for resource in [aws_sqs_queue.send_messages_dead_letter, aws_cloudtrail.s3logs[0]] : "${resource.name} ${jsonencode(resource.tags)}"],
      [for resource in [aws_sfn_state_machine.get_messages, aws_sfn_state_machine.send_message, aws_sfn_state_machine.track_messages] : "${resource.name} ${jsonencode(resource.tags)}"],
      [
        for resource in [
          aws_lambda_function.poll_mailbox, aws_lambda_function.fetch_message_chunk, aws_lambda_function.acknowledge_message,
          aws_lambda_function.send_message_chunk, aws_lambda_function.track_message,
        ] : "${resource.function_name} ${jsonencode(resource.tags)}"
      ],
      [
        for resource in [
          aws_cloudwatch_event_rule.get_messages[0], aws_cloudwatch_event_rule.get_messages_handshake[0], aws_cloudwatch_event_rule.send_message_event,
          aws_cloudwatch_event_rule.send_message_cloudtrail_event[0], aws_cloudwatch_event_rule.track_messages,
        ] : "${resource.name} ${jsonencode(resource.tags)}"
      ],
      [
        for resource in [
          aws_cloudwatch_log_group.poll_mailbox, aws_cloudwatch_log_group.fetch_message_chunk, aws_cloudwatch_log_group.acknowledge_message,
          aws_cloudwatch_log_group.send_message_chunk, aws_cloudwatch_log_group.track_message, aws_cloudwatch_log_group.check_send_parameters,
          aws_cloudwatch_log_group.get_messages, aws_cloudwatch_log_group.send_message, aws_cloudwatch_log_group.track_messages,
          aws_cloudwatch_log_group.mesh_cloudtrail[0],
        ] : "${resource.name} ${jsonencode(resource.tags)}"
      ],
      [
        for resource in [
          aws_iam_role.poll_mailbox, aws_iam_role.fetch_message_chunk, aws_iam_role.acknowledge_message, aws_iam_role.send_message_chunk,
          aws_iam_role.track_message, aws_iam_role.get_messages, aws_iam_role.send_message, aws_iam_role.track_messages,
          aws_iam_role.get_messages_event, aws_iam_role.get_messages_handshake_event, aws_iam_role.send_message_event,
          aws_iam_role.track_messages_event, aws_iam_role.mesh_cloudtrail_to_cloudwatch_role[0],
        ] : "${resource.name} ${jsonencode(resource.tags)}"
      ],
      [
        for resource in [aws_security_group.poll_mailbox[0], aws_security_group.fetch_message_chunk[0], aws_security_group.send_message_chunk[0]] :
        "${resource.name} ${jsonencode({ for key, value in resource.tags : key => value if key != "Name" })}"
      ],
      ])) == toset([
      for name in [
        "demo-mesh", "demo-mesh-s3logs", "demo-mesh-messages", "demo-mesh-leases", "demo-mesh-send-messages-dead-letter",
        "demo-mesh-get-messages", "demo-mesh-send-message", "demo-mesh-track-messages",
        "demo-mesh-poll-mailbox", "demo-mesh-fetch-message-chunk", "demo-mesh-acknowledge-message", "demo-mesh-send-message-chunk", "demo-mesh-track-message",
        "demo-mesh-get-messages-handshake", "demo-mesh-send-messages", "demo-mesh-send-messages-cloudtrail",
        "/aws/lambda/demo-mesh-poll-mailbox", "/aws/lambda/demo-mesh-fetch-message-chunk", "/aws/lambda/demo-mesh-acknowledge-message",
        "/aws/lambda/demo-mesh-send-message-chunk", "/aws/lambda/demo-mesh-track-message", "/aws/lambda/demo-mesh-check-send-parameters",
        "/aws/states/demo-mesh-get-messages", "/aws/states/demo-mesh-send-message", "/aws/states/demo-mesh-track-messages", "/aws/cloudtrail/demo-mesh",
        "demo-mesh-poll-mailbox-role", "demo-mesh-fetch-message-chunk-role", "demo-mesh-acknowledge-message-role", "demo-mesh-send-message-chunk-role", "demo-mesh-track-message-role",
        "demo-mesh-get-messages-event", "demo-mesh-get-messages-handshake-event", "demo-mesh-send-message-event", "demo-mesh-track-messages-event", "demo-mesh-cloudtrail",
      ] : "${name} ${jsonencode({ Application = "results", MeshEnvironment = "integration", Owner = "pathology" })}"
    ])
    error_message = "names begin with the prefix; the caller's tags win"
  }
}

run "statements_of_the_caller_are_added" {
  command = plan

  variables {
    additional_bucket_policy_json  = jsonencode({ Version = "2012-10-17", Statement = [{ Sid = "MyBucket", Effect = "Deny", Principal = "*", Action = "s3:DeleteObject", Resource = "arn:aws:s3:::demo-mesh/*" }] })
    additional_kms_key_policy_json = jsonencode({ Version = "2012-10-17", Statement = [{ Sid = "MyKey", Effect = "Allow", Principal = { AWS = "arn:aws:iam::210987654321:root" }, Action = "kms:Decrypt", Resource = "*" }] })
  }

  assert {
    condition     = data.aws_iam_policy_document.bucket.source_policy_documents[1] == var.additional_bucket_policy_json
    error_message = "the bucket's policy"
  }

  assert {
    condition     = data.aws_iam_policy_document.key.source_policy_documents[2] == var.additional_kms_key_policy_json
    error_message = "the key's policy"
  }

  # A statement of its own would take the place of the caller's with the same Sid, silently.
  assert {
    condition     = length(data.aws_iam_policy_document.key.statement == null ? [] : data.aws_iam_policy_document.key.statement) == 0
    error_message = "two statements with one Sid fail the plan"
  }
}

run "what_the_nhs_module_takes_is_taken" {
  command = plan

  variables {
    crumb_size                           = 1048576
    fetch_message_ephemeral_storage_size = 512
  }
}

run "wrong_values_are_refused" {
  command = plan

  variables {
    additional_bucket_policy_json  = "{"
    additional_kms_key_policy_json = "[]"
    architecture                   = "arm"
    memory                         = { track_message = 127 }
    permissions_boundary           = "boundary"
    timeout                        = { fetch_message_chunk = 119 }
  }

  expect_failures = [
    var.additional_bucket_policy_json,
    var.additional_kms_key_policy_json,
    var.architecture,
    var.memory,
    var.permissions_boundary,
    var.timeout,
  ]
}

run "too_much_is_refused" {
  command = plan

  variables {
    memory  = { poll_mailbox = 10241 }
    timeout = { acknowledge_message = 901 }
  }

  expect_failures = [var.memory, var.timeout]
}

run "zips_of_another_architecture_are_elsewhere" {
  command = plan

  variables {
    architecture = "arm64"
  }

  expect_failures = [
    aws_lambda_function.poll_mailbox,
    aws_lambda_function.fetch_message_chunk,
    aws_lambda_function.acknowledge_message,
    aws_lambda_function.send_message_chunk,
    aws_lambda_function.track_message,
  ]
}

run "objects_and_rows_expire_as_asked_for" {
  command = plan

  variables {
    mesh_s3_object_expiry_enabled = true
    mesh_s3_object_expiry_in_days = 9
    message_row_retention_in_days = 30
  }

  assert {
    condition = alltrue([
      for function in [aws_lambda_function.fetch_message_chunk, aws_lambda_function.acknowledge_message, aws_lambda_function.send_message_chunk, aws_lambda_function.track_message] :
      function.environment[0].variables["ROW_RETENTION_DAYS"] == "30"
    ])
    error_message = "rows, too"
  }

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.mesh.rule :
      rule.id => join(" ", concat([rule.status], rule.expiration[*].days, rule.noncurrent_version_expiration[*].noncurrent_days, rule.abort_incomplete_multipart_upload[*].days_after_initiation))
      } == {
      AbortUploads      = "Enabled 7"
      ExpireMeshObjects = "Enabled 9 9"
    }
    error_message = "objects and their versions, after so many days; uploads as ever"
  }
}
