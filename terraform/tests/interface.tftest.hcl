# What the users of NHS England's terraform-aws-mesh-client have: its variables with their defaults, its outputs and names.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "live-example"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "the_same_defaults" {
  command = plan

  assert {
    condition = {
      verify_ssl                                  = var.verify_ssl
      verify_checks_common_name                   = var.verify_checks_common_name
      use_secrets_manager                         = var.use_secrets_manager
      use_sender_filename                         = var.use_sender_filename
      use_s3_key_for_mex_filename                 = var.use_s3_key_for_mex_filename
      use_legacy_inbound_location                 = var.use_legacy_inbound_location
      chunk_size                                  = var.chunk_size
      never_compress                              = var.never_compress
      compress_threshold                          = var.compress_threshold
      vpc_id                                      = var.vpc_id
      mailboxes                                   = length(var.mailboxes)
      cloudwatch_retention_in_days                = var.cloudwatch_retention_in_days
      cloudtrail_cloudwatch_log_retention_in_days = var.cloudtrail_cloudwatch_log_retention_in_days
      s3logs_retention_in_days                    = var.s3logs_retention_in_days
      get_messages_enabled                        = var.get_messages_enabled
      mesh_s3_object_expiry_in_days               = var.mesh_s3_object_expiry_in_days
      mesh_s3_object_expiry_enabled               = var.mesh_s3_object_expiry_enabled
      cloudtrail_enabled                          = var.cloudtrail_enabled
      get_message_max_concurrency                 = var.get_message_max_concurrency
      get_messages_schedule                       = var.get_messages_schedule
      get_messages_page_limit                     = var.get_messages_page_limit
      handshake_schedule                          = var.handshake_schedule
      fetch_message_ephemeral_storage_size        = var.fetch_message_ephemeral_storage_size
      aws_s3_endpoint_prefix_list_id              = var.aws_s3_endpoint_prefix_list_id
      aws_ssm_endpoint_sg_id                      = var.aws_ssm_endpoint_sg_id
      aws_sfn_endpoint_sg_id                      = var.aws_sfn_endpoint_sg_id
      aws_logs_endpoints_sg_id                    = var.aws_logs_endpoints_sg_id
      aws_kms_endpoints_sg_id                     = var.aws_kms_endpoints_sg_id
      aws_lambda_endpoints_sg_id                  = var.aws_lambda_endpoints_sg_id
      aws_secrets_endpoints_sg_id                 = var.aws_secrets_endpoints_sg_id
      } == {
      verify_ssl                                  = true
      verify_checks_common_name                   = true
      use_secrets_manager                         = false
      use_sender_filename                         = false
      use_s3_key_for_mex_filename                 = false
      use_legacy_inbound_location                 = false
      chunk_size                                  = 20971520
      never_compress                              = false
      compress_threshold                          = 20971520
      vpc_id                                      = ""
      mailboxes                                   = 0
      cloudwatch_retention_in_days                = 365
      cloudtrail_cloudwatch_log_retention_in_days = 30
      s3logs_retention_in_days                    = 7
      get_messages_enabled                        = true
      mesh_s3_object_expiry_in_days               = 60
      mesh_s3_object_expiry_enabled               = false
      cloudtrail_enabled                          = true
      get_message_max_concurrency                 = 1
      get_messages_schedule                       = "rate(1 minute)"
      get_messages_page_limit                     = 500
      handshake_schedule                          = "rate(1 hour)"
      fetch_message_ephemeral_storage_size        = 10240
      aws_s3_endpoint_prefix_list_id              = ""
      aws_ssm_endpoint_sg_id                      = ""
      aws_sfn_endpoint_sg_id                      = ""
      aws_logs_endpoints_sg_id                    = ""
      aws_kms_endpoints_sg_id                     = ""
      aws_lambda_endpoints_sg_id                  = ""
      aws_secrets_endpoints_sg_id                 = ""
    }
    error_message = "a default differs"
  }

  # Region and account are the provider's; that module asks for them.
  assert {
    condition     = var.account_id == null && var.crumb_size == null && var.region == null && length(var.subnet_ids) == 0
    error_message = "what may be left out here"
  }

  assert {
    condition     = var.mailbox_ids == toset(["X26ABC1"]) && var.subnet_ids == setsubtract(var.mailbox_ids, var.mailbox_ids)
    error_message = "sets: a name may be given twice"
  }
}

run "the_same_names_and_outputs" {
  command = plan

  assert {
    condition = {
      mesh_s3_bucket_name                         = output.mesh_s3_bucket_name
      mesh_s3_logs_bucket_name                    = output.mesh_s3_logs_bucket_name
      step_function_get_messages_log_group_name   = output.step_function_get_messages_log_group_name
      step_function_send_message_log_group_name   = output.step_function_send_message_log_group_name
      lambda_check_send_parameters_log_group_name = output.lambda_check_send_parameters_log_group_name
      lambda_fetch_message_chunk_log_group_name   = output.lambda_fetch_message_chunk_log_group_name
      lambda_poll_mailbox_log_group_name          = output.lambda_poll_mailbox_log_group_name
      lambda_send_message_chunk_log_group_name    = output.lambda_send_message_chunk_log_group_name
      send_message_sg_id                          = output.send_message_sg_id
      get_messages_sg_id                          = output.get_messages_sg_id
      poll_mailbox_sg_id                          = output.poll_mailbox_sg_id
      } == {
      mesh_s3_bucket_name                         = "live-example-mesh"
      mesh_s3_logs_bucket_name                    = "live-example-mesh-s3logs"
      step_function_get_messages_log_group_name   = "/aws/states/live-example-mesh-get-messages"
      step_function_send_message_log_group_name   = "/aws/states/live-example-mesh-send-message"
      lambda_check_send_parameters_log_group_name = "/aws/lambda/live-example-mesh-check-send-parameters"
      lambda_fetch_message_chunk_log_group_name   = "/aws/lambda/live-example-mesh-fetch-message-chunk"
      lambda_poll_mailbox_log_group_name          = "/aws/lambda/live-example-mesh-poll-mailbox"
      lambda_send_message_chunk_log_group_name    = "/aws/lambda/live-example-mesh-send-message-chunk"
      send_message_sg_id                          = ""
      get_messages_sg_id                          = ""
      poll_mailbox_sg_id                          = ""
    }
    error_message = "an output differs"
  }

  assert {
    condition     = aws_kms_alias.mesh.name == "alias/live-example-mesh"
    error_message = "the key's alias"
  }

  assert {
    condition = [
      aws_sfn_state_machine.get_messages.name, aws_sfn_state_machine.send_message.name,
      aws_cloudwatch_event_rule.get_messages[0].name, aws_cloudwatch_event_rule.get_messages_handshake[0].name, aws_cloudwatch_event_rule.send_message_event.name,
      aws_lambda_function.poll_mailbox.function_name, aws_lambda_function.fetch_message_chunk.function_name, aws_lambda_function.send_message_chunk.function_name,
      aws_iam_role.poll_mailbox.name, aws_iam_role.get_messages.name, aws_iam_role.get_messages_event.name,
      aws_iam_role.get_messages_handshake_event.name, aws_iam_role.send_message_event.name,
      aws_iam_role.fetch_message_chunk.name, aws_iam_role.send_message_chunk.name, aws_iam_role.send_message.name,
      aws_iam_role_policy.poll_mailbox.name, aws_iam_role_policy.fetch_message_chunk.name, aws_iam_role_policy.send_message_chunk.name,
      aws_iam_role_policy.get_messages.name, aws_iam_role_policy.send_message.name, aws_iam_role_policy.get_messages_event.name,
      aws_iam_role_policy.get_messages_handshake_event.name, aws_iam_role_policy.send_message_event.name,
      ] == [
      "live-example-mesh-get-messages", "live-example-mesh-send-message",
      "live-example-mesh-get-messages", "live-example-mesh-get-messages-handshake", "live-example-mesh-send-messages",
      "live-example-mesh-poll-mailbox", "live-example-mesh-fetch-message-chunk", "live-example-mesh-send-message-chunk",
      "live-example-mesh-poll-mailbox-role", "live-example-mesh-get-messages", "live-example-mesh-get-messages-event",
      "live-example-mesh-get-messages-handshake-event", "live-example-mesh-send-message-event",
      "live-example-mesh-fetch-message-chunk-role", "live-example-mesh-send-message-chunk-role", "live-example-mesh-send-message",
      "live-example-mesh-poll-mailbox-policy", "live-example-mesh-fetch-message-chunk-policy", "live-example-mesh-send-message-chunk-policy",
      "live-example-mesh-get-messages", "live-example-mesh-send-message", "live-example-mesh-get-messages-event",
      "live-example-mesh-get-messages-handshake-event", "live-example-mesh-send-message-event",
    ]
    error_message = "names that outside things depend on"
  }
}

# ARNs are known after the apply alone.
run "the_other_outputs" {
  command = plan

  override_resource {
    target          = aws_kms_key.mesh
    override_during = plan
    values          = { arn = "arn:aws-mock:kms::123456789012:key/mesh" }
  }

  override_resource {
    target          = aws_sfn_state_machine.get_messages
    override_during = plan
    values          = { arn = "arn:aws-mock:states::123456789012:stateMachine:get" }
  }

  override_resource {
    target          = aws_sfn_state_machine.send_message
    override_during = plan
    values          = { arn = "arn:aws-mock:states::123456789012:stateMachine:send" }
  }

  override_resource {
    target          = aws_sfn_state_machine.track_messages
    override_during = plan
    values          = { arn = "arn:aws-mock:states::123456789012:stateMachine:track" }
  }

  assert {
    condition = {
      mesh_kms_key_arn                 = output.mesh_kms_key_arn
      step_function_get_messages_arn   = output.step_function_get_messages_arn
      step_function_send_messages_arn  = output.step_function_send_messages_arn
      step_function_track_messages_arn = output.step_function_track_messages_arn
      } == {
      mesh_kms_key_arn                 = "arn:aws-mock:kms::123456789012:key/mesh"
      step_function_get_messages_arn   = "arn:aws-mock:states::123456789012:stateMachine:get"
      step_function_send_messages_arn  = "arn:aws-mock:states::123456789012:stateMachine:send"
      step_function_track_messages_arn = "arn:aws-mock:states::123456789012:stateMachine:track"
    }
    error_message = "an output differs"
  }
}
