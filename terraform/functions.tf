locals {
  zips_dir       = coalesce(var.function_zips_dir, "${path.module}/../dist")
  secrets_prefix = "/${local.name}/mesh"

  environment = {
    LOG_LEVEL                 = var.log_level
    MESH_URL                  = local.mesh_url
    MESSAGES_TABLE            = aws_dynamodb_table.messages.name
    ROW_RETENTION_DAYS        = tostring(var.message_row_retention_in_days)
    SECRETS_PREFIX            = local.secrets_prefix
    SECRETS_SOURCE            = "parameter-store"
    VERIFY_CHECKS_COMMON_NAME = "true"
    VERIFY_SSL                = tostring(var.verify_ssl)
  }
  lease_environment = { LEASES_TABLE = aws_dynamodb_table.leases.name }
  try_environment   = { MAX_ATTEMPTS = tostring(var.max_attempts) }
  bucket_environment = {
    BUCKET       = aws_s3_bucket.mesh.id
    BUCKET_ARN   = aws_s3_bucket.mesh.arn
    EVENT_SOURCE = "mesh-client"
  }
}

module "poll_mailbox" {
  source        = "./modules/lambda"
  name          = "${local.name}-poll-mailbox"
  description   = "Lists what waits in a MESH mailbox, or shakes hands"
  zip           = "${local.zips_dir}/poll.zip"
  memory_size   = 128
  timeout       = 300
  log_group_arn = aws_cloudwatch_log_group.poll_mailbox.arn
  policy        = data.aws_iam_policy_document.poll_mailbox.json
  tags          = local.tags
  environment = merge(local.environment, local.lease_environment, local.try_environment, {
    FETCH_BATCH_SIZE = tostring(var.fetch_batch_size)
    PAGE_LIMIT       = tostring(var.get_messages_page_limit)
  })
}

module "fetch_message_chunk" {
  source        = "./modules/lambda"
  name          = "${local.name}-fetch-message-chunk"
  description   = "Streams MESH messages into the bucket"
  zip           = "${local.zips_dir}/fetch-chunk.zip"
  memory_size   = 256
  timeout       = 900
  log_group_arn = aws_cloudwatch_log_group.fetch_message_chunk.arn
  policy        = data.aws_iam_policy_document.fetch_message_chunk.json
  tags          = local.tags
  environment   = merge(local.environment, local.lease_environment, local.try_environment, local.bucket_environment)
}

module "acknowledge_message" {
  source        = "./modules/lambda"
  name          = "${local.name}-acknowledge-message"
  description   = "Acknowledges stored MESH messages"
  zip           = "${local.zips_dir}/ack.zip"
  memory_size   = 128
  timeout       = 300
  log_group_arn = aws_cloudwatch_log_group.acknowledge_message.arn
  policy        = data.aws_iam_policy_document.acknowledge_message.json
  tags          = local.tags
  environment   = merge(local.environment, local.lease_environment)
}

module "send_message_chunk" {
  source        = "./modules/lambda"
  name          = "${local.name}-send-message-chunk"
  description   = "Streams an object of the bucket into a MESH message"
  zip           = "${local.zips_dir}/send.zip"
  memory_size   = 256
  timeout       = 900
  log_group_arn = aws_cloudwatch_log_group.send_message_chunk.arn
  policy        = data.aws_iam_policy_document.send_message_chunk.json
  tags          = local.tags
  environment = merge(local.environment, local.bucket_environment, {
    CHUNK_SIZE                  = tostring(var.chunk_size)
    COMPRESS_THRESHOLD          = tostring(var.compress_threshold)
    NEVER_COMPRESS              = tostring(var.never_compress)
    ON_UNCERTAIN_SEND           = var.on_uncertain_send
    SET_LOCAL_ID                = tostring(var.set_local_id)
    UNCERTAIN_SEND_WAIT_SECONDS = tostring(var.uncertain_send_wait_seconds)
  })
}

# The log groups stay out of the module above: their addresses are those of the NHS's module.

resource "aws_cloudwatch_log_group" "poll_mailbox" {
  name              = "/aws/lambda/${local.name}-poll-mailbox"
  retention_in_days = var.cloudwatch_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_cloudwatch_log_group" "fetch_message_chunk" {
  name              = "/aws/lambda/${local.name}-fetch-message-chunk"
  retention_in_days = var.cloudwatch_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_cloudwatch_log_group" "acknowledge_message" {
  name              = "/aws/lambda/${local.name}-acknowledge-message"
  retention_in_days = var.cloudwatch_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_cloudwatch_log_group" "send_message_chunk" {
  name              = "/aws/lambda/${local.name}-send-message-chunk"
  retention_in_days = var.cloudwatch_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}
