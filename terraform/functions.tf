# Functions, log groups and roles stand one by one, at the addresses of the NHS's module: a state moves in by a change of
# the module's source alone.

locals {
  zips_dir = coalesce(var.function_zips_dir, "${path.module}/../dist${var.architecture == "x86_64" ? "" : "/${var.architecture}"}")
  zips = {
    poll_mailbox        = "${local.zips_dir}/poll.zip"
    fetch_message_chunk = "${local.zips_dir}/fetch-chunk.zip"
    acknowledge_message = "${local.zips_dir}/ack.zip"
    send_message_chunk  = "${local.zips_dir}/send.zip"
    track_message       = "${local.zips_dir}/track.zip"
  }
  zip_is_missing = {
    for function, zip in local.zips : function =>
    "The function's zip ${zip} is missing: take a release, run `${var.architecture == "x86_64" ? "" : "ARCH=${var.architecture} "}make build` in the repository's root, or set function_zips_dir to the folder that holds the zips."
  }
  function_name = { for function in keys(local.zips) : function => "${local.name}-${replace(function, "_", "-")}" }
  runtime       = "provided.al2023"
  tracing_mode  = var.tracing_enabled ? "Active" : "PassThrough"

  secrets_prefix = "/${local.name}/mesh"

  environment = {
    LOG_LEVEL                 = var.log_level
    MESH_URL                  = local.mesh_url
    MESSAGES_TABLE            = aws_dynamodb_table.messages.name
    ROW_RETENTION_DAYS        = tostring(var.message_row_retention_in_days)
    SECRETS_PREFIX            = local.secrets_prefix
    SECRETS_SOURCE            = var.use_secrets_manager ? "secrets-manager" : "parameter-store"
    VERIFY_CHECKS_COMMON_NAME = tostring(var.verify_checks_common_name)
    VERIFY_SSL                = tostring(var.verify_ssl)
  }
  lease_environment = { LEASES_TABLE = aws_dynamodb_table.leases.name }
  try_environment   = { MAX_ATTEMPTS = tostring(var.max_attempts) }
  event_environment = {
    BUCKET_ARN   = aws_s3_bucket.mesh.arn
    EVENT_SOURCE = "mesh-client"
  }
  bucket_environment = merge(local.event_environment, { BUCKET = aws_s3_bucket.mesh.id })
}

# Lists what waits in a MESH mailbox, or shakes hands

resource "aws_lambda_function" "poll_mailbox" {
  #checkov:skip=CKV_AWS_115:The state machine bounds it; reserved concurrency would take from the account's
  #checkov:skip=CKV_AWS_116:Step Functions invokes it synchronously and deals with its errors
  #checkov:skip=CKV_AWS_173:Settings alone, never a secret; Lambda encrypts them with a key of AWS
  #checkov:skip=CKV_AWS_272:A signer is the account's own; a release comes with SHA256SUMS
  function_name    = local.function_name.poll_mailbox
  description      = "Lists what waits in a MESH mailbox, or shakes hands"
  role             = aws_iam_role.poll_mailbox.arn
  runtime          = local.runtime
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = local.zips.poll_mailbox
  source_code_hash = try(filebase64sha256(local.zips.poll_mailbox), null)
  memory_size      = var.memory.poll_mailbox
  timeout          = var.timeout.poll_mailbox
  tags             = local.tags

  # State machines call a version, so that a running execution keeps the code it began with.
  publish = true

  environment {
    variables = merge(local.environment, local.lease_environment, local.try_environment, {
      FETCH_BATCH_SIZE = tostring(var.fetch_batch_size)
      PAGE_LIMIT       = tostring(var.get_messages_page_limit)
    })
  }

  # Said, because the provider keeps what it finds: in the NHS's module a function had 10 GiB.
  ephemeral_storage {
    size = 512
  }

  tracing_config {
    mode = local.tracing_mode
  }

  dynamic "vpc_config" {
    for_each = aws_security_group.poll_mailbox
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = [vpc_config.value.id]
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists(local.zips.poll_mailbox)
      error_message = local.zip_is_missing.poll_mailbox
    }
  }

  depends_on = [aws_cloudwatch_log_group.poll_mailbox, aws_iam_role_policy.poll_mailbox]
}

resource "aws_cloudwatch_log_group" "poll_mailbox" {
  name              = "/aws/lambda/${local.function_name.poll_mailbox}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "poll_mailbox" {
  name                 = "${local.function_name.poll_mailbox}-role"
  description          = "Role of the function ${local.function_name.poll_mailbox}"
  assume_role_policy   = data.aws_iam_policy_document.assume["lambda"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "poll_mailbox" {
  name   = "${local.function_name.poll_mailbox}-policy"
  role   = aws_iam_role.poll_mailbox.id
  policy = data.aws_iam_policy_document.poll_mailbox.json
}

# Streams MESH messages into the bucket

resource "aws_lambda_function" "fetch_message_chunk" {
  #checkov:skip=CKV_AWS_115:The state machine bounds it; reserved concurrency would take from the account's
  #checkov:skip=CKV_AWS_116:Step Functions invokes it synchronously and deals with its errors
  #checkov:skip=CKV_AWS_173:Settings alone, never a secret; Lambda encrypts them with a key of AWS
  #checkov:skip=CKV_AWS_272:A signer is the account's own; a release comes with SHA256SUMS
  function_name    = local.function_name.fetch_message_chunk
  description      = "Streams MESH messages into the bucket"
  role             = aws_iam_role.fetch_message_chunk.arn
  runtime          = local.runtime
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = local.zips.fetch_message_chunk
  source_code_hash = try(filebase64sha256(local.zips.fetch_message_chunk), null)
  memory_size      = coalesce(var.fetch_message_lambda_memory_size, var.memory.fetch_message_chunk)
  timeout          = var.timeout.fetch_message_chunk
  tags             = local.tags

  # State machines call a version, so that a running execution keeps the code it began with.
  publish = true

  environment {
    variables = merge(local.environment, local.lease_environment, local.try_environment, local.bucket_environment, {
      ACCEPT_ENCODING             = var.accept_encoding
      IN_ORDER                    = tostring(var.get_message_max_concurrency == 1)
      MAX_MESSAGE_SIZE            = tostring(var.max_message_size)
      USE_LEGACY_INBOUND_LOCATION = tostring(var.use_legacy_inbound_location)
      USE_SENDER_FILENAME         = tostring(var.use_sender_filename)
    })
  }

  ephemeral_storage {
    size = 512
  }

  tracing_config {
    mode = local.tracing_mode
  }

  dynamic "vpc_config" {
    for_each = aws_security_group.fetch_message_chunk
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = [vpc_config.value.id]
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists(local.zips.fetch_message_chunk)
      error_message = local.zip_is_missing.fetch_message_chunk
    }
  }

  depends_on = [aws_cloudwatch_log_group.fetch_message_chunk, aws_iam_role_policy.fetch_message_chunk]
}

resource "aws_cloudwatch_log_group" "fetch_message_chunk" {
  name              = "/aws/lambda/${local.function_name.fetch_message_chunk}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "fetch_message_chunk" {
  name                 = "${local.function_name.fetch_message_chunk}-role"
  description          = "Role of the function ${local.function_name.fetch_message_chunk}"
  assume_role_policy   = data.aws_iam_policy_document.assume["lambda"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "fetch_message_chunk" {
  name   = "${local.function_name.fetch_message_chunk}-policy"
  role   = aws_iam_role.fetch_message_chunk.id
  policy = data.aws_iam_policy_document.fetch_message_chunk.json
}

# Acknowledges stored MESH messages

resource "aws_lambda_function" "acknowledge_message" {
  #checkov:skip=CKV_AWS_115:The state machine bounds it; reserved concurrency would take from the account's
  #checkov:skip=CKV_AWS_116:Step Functions invokes it synchronously and deals with its errors
  #checkov:skip=CKV_AWS_173:Settings alone, never a secret; Lambda encrypts them with a key of AWS
  #checkov:skip=CKV_AWS_272:A signer is the account's own; a release comes with SHA256SUMS
  function_name    = local.function_name.acknowledge_message
  description      = "Acknowledges stored MESH messages"
  role             = aws_iam_role.acknowledge_message.arn
  runtime          = local.runtime
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = local.zips.acknowledge_message
  source_code_hash = try(filebase64sha256(local.zips.acknowledge_message), null)
  memory_size      = var.memory.acknowledge_message
  timeout          = var.timeout.acknowledge_message
  tags             = local.tags

  # State machines call a version, so that a running execution keeps the code it began with.
  publish = true

  environment {
    variables = merge(local.environment, local.lease_environment)
  }

  ephemeral_storage {
    size = 512
  }

  tracing_config {
    mode = local.tracing_mode
  }

  dynamic "vpc_config" {
    for_each = aws_security_group.fetch_message_chunk
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = [vpc_config.value.id]
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists(local.zips.acknowledge_message)
      error_message = local.zip_is_missing.acknowledge_message
    }
  }

  depends_on = [aws_cloudwatch_log_group.acknowledge_message, aws_iam_role_policy.acknowledge_message]
}

resource "aws_cloudwatch_log_group" "acknowledge_message" {
  name              = "/aws/lambda/${local.function_name.acknowledge_message}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "acknowledge_message" {
  name                 = "${local.function_name.acknowledge_message}-role"
  description          = "Role of the function ${local.function_name.acknowledge_message}"
  assume_role_policy   = data.aws_iam_policy_document.assume["lambda"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "acknowledge_message" {
  name   = "${local.function_name.acknowledge_message}-policy"
  role   = aws_iam_role.acknowledge_message.id
  policy = data.aws_iam_policy_document.acknowledge_message.json
}

# Streams an object of the bucket into a MESH message

resource "aws_lambda_function" "send_message_chunk" {
  #checkov:skip=CKV_AWS_116:Step Functions invokes it synchronously and deals with its errors
  #checkov:skip=CKV_AWS_173:Settings alone, never a secret; Lambda encrypts them with a key of AWS
  #checkov:skip=CKV_AWS_272:A signer is the account's own; a release comes with SHA256SUMS
  function_name    = local.function_name.send_message_chunk
  description      = "Streams an object of the bucket into a MESH message"
  role             = aws_iam_role.send_message_chunk.arn
  runtime          = local.runtime
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = local.zips.send_message_chunk
  source_code_hash = try(filebase64sha256(local.zips.send_message_chunk), null)
  memory_size      = coalesce(var.send_message_lambda_memory_size, var.memory.send_message_chunk)
  timeout          = var.timeout.send_message_chunk
  tags             = local.tags

  reserved_concurrent_executions = coalesce(var.send_max_concurrency, -1)

  # State machines call a version, so that a running execution keeps the code it began with.
  publish = true

  environment {
    variables = merge(local.environment, local.bucket_environment, {
      CHUNK_SIZE                  = tostring(var.chunk_size)
      COMPRESS_THRESHOLD          = tostring(var.compress_threshold)
      COMPRESSION_LEVEL           = tostring(var.compression_level)
      NEVER_COMPRESS              = tostring(var.never_compress)
      ON_UNCERTAIN_SEND           = var.on_uncertain_send
      SEND_COPIED_OBJECTS         = tostring(var.send_copied_objects)
      SET_LOCAL_ID                = tostring(var.set_local_id)
      UNCERTAIN_SEND_WAIT_SECONDS = tostring(var.uncertain_send_wait_seconds)
      USE_S3_KEY_FOR_MEX_FILENAME = tostring(var.use_s3_key_for_mex_filename)
    })
  }

  ephemeral_storage {
    size = 512
  }

  tracing_config {
    mode = local.tracing_mode
  }

  dynamic "vpc_config" {
    for_each = aws_security_group.send_message_chunk
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = [vpc_config.value.id]
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists(local.zips.send_message_chunk)
      error_message = local.zip_is_missing.send_message_chunk
    }
  }

  depends_on = [aws_cloudwatch_log_group.send_message_chunk, aws_iam_role_policy.send_message_chunk]
}

resource "aws_cloudwatch_log_group" "send_message_chunk" {
  name              = "/aws/lambda/${local.function_name.send_message_chunk}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "send_message_chunk" {
  name                 = "${local.function_name.send_message_chunk}-role"
  description          = "Role of the function ${local.function_name.send_message_chunk}"
  assume_role_policy   = data.aws_iam_policy_document.assume["lambda"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "send_message_chunk" {
  name   = "${local.function_name.send_message_chunk}-policy"
  role   = aws_iam_role.send_message_chunk.id
  policy = data.aws_iam_policy_document.send_message_chunk.json
}

# Takes up interrupted sends again and asks MESH what became of sent messages

resource "aws_lambda_function" "track_message" {
  #checkov:skip=CKV_AWS_115:The state machine bounds it; reserved concurrency would take from the account's
  #checkov:skip=CKV_AWS_116:Step Functions invokes it synchronously and deals with its errors
  #checkov:skip=CKV_AWS_173:Settings alone, never a secret; Lambda encrypts them with a key of AWS
  #checkov:skip=CKV_AWS_272:A signer is the account's own; a release comes with SHA256SUMS
  function_name    = local.function_name.track_message
  description      = "Takes up interrupted sends again and asks MESH what became of sent messages"
  role             = aws_iam_role.track_message.arn
  runtime          = local.runtime
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = local.zips.track_message
  source_code_hash = try(filebase64sha256(local.zips.track_message), null)
  memory_size      = var.memory.track_message
  timeout          = var.timeout.track_message
  tags             = local.tags

  # State machines call a version, so that a running execution keeps the code it began with.
  publish = true

  environment {
    variables = merge(local.environment, local.try_environment, local.event_environment, {
      # Alarms count INFO lines.
      LOG_LEVEL        = var.alarms_enabled && var.log_level != "DEBUG" ? "INFO" : var.log_level
      SEND_MESSAGE_ARN = local.send_message_arn
    })
  }

  ephemeral_storage {
    size = 512
  }

  tracing_config {
    mode = local.tracing_mode
  }

  dynamic "vpc_config" {
    for_each = aws_security_group.send_message_chunk
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = [vpc_config.value.id]
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists(local.zips.track_message)
      error_message = local.zip_is_missing.track_message
    }
  }

  depends_on = [aws_cloudwatch_log_group.track_message, aws_iam_role_policy.track_message]
}

resource "aws_cloudwatch_log_group" "track_message" {
  name              = "/aws/lambda/${local.function_name.track_message}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "track_message" {
  name                 = "${local.function_name.track_message}-role"
  description          = "Role of the function ${local.function_name.track_message}"
  assume_role_policy   = data.aws_iam_policy_document.assume["lambda"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "track_message" {
  name   = "${local.function_name.track_message}-policy"
  role   = aws_iam_role.track_message.id
  policy = data.aws_iam_policy_document.track_message.json
}

# The NHS's module has a further function; ours checks a send's parameters in send_message_chunk. Its log group
# stays, so that moving in deletes no log.
resource "aws_cloudwatch_log_group" "check_send_parameters" {
  name              = "/aws/lambda/${local.name}-check-send-parameters"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}
