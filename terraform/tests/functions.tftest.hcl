# What the caller sets reaches functions, state machines, schedules and log groups.

mock_provider "aws" {
  source          = "./tests/aws"
  override_during = plan
}

override_resource {
  target          = aws_s3_bucket.mesh
  override_during = plan
  values          = { id = "demo-mesh", arn = "arn:aws:s3:::demo-mesh" }
}

variables {
  name_prefix = "demo"
  mesh_env    = "production"
  mailbox_ids = ["X26ABC1"]
}

run "by_default" {
  command = plan

  assert {
    condition = {
      for name, function in {
        poll_mailbox        = aws_lambda_function.poll_mailbox
        fetch_message_chunk = aws_lambda_function.fetch_message_chunk
        acknowledge_message = aws_lambda_function.acknowledge_message
        send_message_chunk  = aws_lambda_function.send_message_chunk
        track_message       = aws_lambda_function.track_message
      } : name => { for variable, value in function.environment[0].variables : variable => value }
      } == {
      for name, own in {
        poll_mailbox = {
          FETCH_BATCH_SIZE = "10"
          LEASES_TABLE     = "demo-mesh-leases"
          MAX_ATTEMPTS     = "5"
          PAGE_LIMIT       = "500"
        }
        fetch_message_chunk = {
          ACCEPT_ENCODING             = "gzip"
          BUCKET                      = "demo-mesh"
          BUCKET_ARN                  = "arn:aws:s3:::demo-mesh"
          EVENT_SOURCE                = "mesh-client"
          IN_ORDER                    = "true"
          LEASES_TABLE                = "demo-mesh-leases"
          MAX_ATTEMPTS                = "5"
          MAX_MESSAGE_SIZE            = "100000000000"
          USE_LEGACY_INBOUND_LOCATION = "false"
          USE_SENDER_FILENAME         = "false"
        }
        acknowledge_message = { LEASES_TABLE = "demo-mesh-leases" }
        send_message_chunk = {
          BUCKET                      = "demo-mesh"
          BUCKET_ARN                  = "arn:aws:s3:::demo-mesh"
          EVENT_SOURCE                = "mesh-client"
          CHUNK_SIZE                  = "20971520"
          COMPRESS_THRESHOLD          = "20971520"
          COMPRESSION_LEVEL           = "6"
          NEVER_COMPRESS              = "false"
          ON_UNCERTAIN_SEND           = "hold"
          SEND_COPIED_OBJECTS         = "false"
          SET_LOCAL_ID                = "true"
          UNCERTAIN_SEND_WAIT_SECONDS = "300"
          USE_S3_KEY_FOR_MEX_FILENAME = "false"
        }
        track_message = {
          BUCKET_ARN       = "arn:aws:s3:::demo-mesh"
          EVENT_SOURCE     = "mesh-client"
          MAX_ATTEMPTS     = "5"
          SEND_MESSAGE_ARN = "arn:aws:states:eu-west-2:123456789012:stateMachine:demo-mesh-send-message"
        }
        } : name => merge({
          LOG_LEVEL                 = "INFO"
          MESH_URL                  = "https://mesh-sync.spineservices.nhs.uk"
          MESSAGES_TABLE            = "demo-mesh-messages"
          ROW_RETENTION_DAYS        = "400"
          SECRETS_PREFIX            = "/demo-mesh/mesh"
          SECRETS_SOURCE            = "parameter-store"
          VERIFY_CHECKS_COMMON_NAME = "true"
          VERIFY_SSL                = "true"
      }, own)
    }
    error_message = "what the functions are told"
  }
}

run "everything_set_otherwise" {
  command = plan

  variables {
    accept_encoding                             = "identity"
    chunk_size                                  = 6000000
    cloudtrail_cloudwatch_log_retention_in_days = 3
    cloudwatch_retention_in_days                = 14
    compress_threshold                          = 2
    compression_level                           = 9
    fetch_batch_size                            = 3
    get_message_max_concurrency                 = 4
    get_messages_page_limit                     = 50
    get_messages_schedule                       = "cron(0/7 * * * ? *)"
    handshake_schedule                          = "cron(0 8 * * ? *)"
    log_level                                   = "DEBUG"
    max_attempts                                = 7
    max_message_size                            = 8000000
    mesh_env                                    = "local"
    mesh_url                                    = "https://sandbox.example.org:8700/"
    message_row_retention_in_days               = 30
    never_compress                              = true
    on_uncertain_send                           = "resend"
    send_copied_objects                         = true
    set_local_id                                = false
    track_messages_schedule                     = "rate(6 minutes)"
    uncertain_send_wait_seconds                 = 60
    use_legacy_inbound_location                 = true
    use_s3_key_for_mex_filename                 = true
    use_secrets_manager                         = true
    use_sender_filename                         = true
    verify_checks_common_name                   = false
    verify_ssl                                  = false
  }

  assert {
    condition = {
      for name, function in {
        poll_mailbox        = aws_lambda_function.poll_mailbox
        fetch_message_chunk = aws_lambda_function.fetch_message_chunk
        acknowledge_message = aws_lambda_function.acknowledge_message
        send_message_chunk  = aws_lambda_function.send_message_chunk
        track_message       = aws_lambda_function.track_message
      } : name => { for variable, value in function.environment[0].variables : variable => value }
      } == {
      for name, own in {
        poll_mailbox = {
          FETCH_BATCH_SIZE = "3"
          LEASES_TABLE     = "demo-mesh-leases"
          MAX_ATTEMPTS     = "7"
          PAGE_LIMIT       = "50"
        }
        fetch_message_chunk = {
          ACCEPT_ENCODING             = "identity"
          BUCKET                      = "demo-mesh"
          BUCKET_ARN                  = "arn:aws:s3:::demo-mesh"
          EVENT_SOURCE                = "mesh-client"
          IN_ORDER                    = "false"
          LEASES_TABLE                = "demo-mesh-leases"
          MAX_ATTEMPTS                = "7"
          MAX_MESSAGE_SIZE            = "8000000"
          USE_LEGACY_INBOUND_LOCATION = "true"
          USE_SENDER_FILENAME         = "true"
        }
        acknowledge_message = { LEASES_TABLE = "demo-mesh-leases" }
        send_message_chunk = {
          BUCKET                      = "demo-mesh"
          BUCKET_ARN                  = "arn:aws:s3:::demo-mesh"
          EVENT_SOURCE                = "mesh-client"
          CHUNK_SIZE                  = "6000000"
          COMPRESS_THRESHOLD          = "2"
          COMPRESSION_LEVEL           = "9"
          NEVER_COMPRESS              = "true"
          ON_UNCERTAIN_SEND           = "resend"
          SEND_COPIED_OBJECTS         = "true"
          SET_LOCAL_ID                = "false"
          UNCERTAIN_SEND_WAIT_SECONDS = "60"
          USE_S3_KEY_FOR_MEX_FILENAME = "true"
        }
        track_message = {
          BUCKET_ARN       = "arn:aws:s3:::demo-mesh"
          EVENT_SOURCE     = "mesh-client"
          MAX_ATTEMPTS     = "7"
          SEND_MESSAGE_ARN = "arn:aws:states:eu-west-2:123456789012:stateMachine:demo-mesh-send-message"
        }
        } : name => merge({
          LOG_LEVEL                 = "DEBUG"
          MESH_URL                  = "https://sandbox.example.org:8700"
          MESSAGES_TABLE            = "demo-mesh-messages"
          ROW_RETENTION_DAYS        = "30"
          SECRETS_PREFIX            = "/demo-mesh/mesh"
          SECRETS_SOURCE            = "secrets-manager"
          VERIFY_CHECKS_COMMON_NAME = "false"
          VERIFY_SSL                = "false"
      }, own)
    }
    error_message = "what the functions are told"
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.get_messages.definition).States["Fetch messages"].MaxConcurrency == 4
    error_message = "batches that are fetched at once"
  }

  assert {
    condition = {
      for rule in [aws_cloudwatch_event_rule.get_messages[0], aws_cloudwatch_event_rule.get_messages_handshake[0], aws_cloudwatch_event_rule.track_messages] :
      rule.name => rule.schedule_expression
      } == {
      demo-mesh-get-messages           = "cron(0/7 * * * ? *)"
      demo-mesh-get-messages-handshake = "cron(0 8 * * ? *)"
      demo-mesh-track-messages         = "rate(6 minutes)"
    }
    error_message = "when polls, handshakes and tracking runs begin"
  }

  assert {
    condition = {
      for group in [
        aws_cloudwatch_log_group.poll_mailbox, aws_cloudwatch_log_group.fetch_message_chunk, aws_cloudwatch_log_group.acknowledge_message,
        aws_cloudwatch_log_group.send_message_chunk, aws_cloudwatch_log_group.track_message, aws_cloudwatch_log_group.check_send_parameters,
        aws_cloudwatch_log_group.get_messages, aws_cloudwatch_log_group.send_message, aws_cloudwatch_log_group.track_messages,
        aws_cloudwatch_log_group.mesh_cloudtrail[0],
      ] : group.retention_in_days => group.name...
      } == {
      "14" = [
        "/aws/lambda/demo-mesh-poll-mailbox", "/aws/lambda/demo-mesh-fetch-message-chunk", "/aws/lambda/demo-mesh-acknowledge-message",
        "/aws/lambda/demo-mesh-send-message-chunk", "/aws/lambda/demo-mesh-track-message", "/aws/lambda/demo-mesh-check-send-parameters",
        "/aws/states/demo-mesh-get-messages", "/aws/states/demo-mesh-send-message", "/aws/states/demo-mesh-track-messages",
      ]
      "3" = ["/aws/cloudtrail/demo-mesh"]
    }
    error_message = "how long each log group keeps its lines"
  }
}
