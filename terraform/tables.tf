locals {
  deletion_protection = coalesce(var.deletion_protection, !var.force_destroy)
}

# A row for each message, received or sent: its state, attempts and error, and the claim on a send.
resource "aws_dynamodb_table" "messages" {
  name                        = "${local.name}-messages"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = local.deletion_protection
  tags                        = local.tags

  dynamic "attribute" {
    for_each = ["due", "id", "mailbox", "message_id", "next_attempt_at", "timestamp"]
    content {
      name = attribute.value
      type = "S"
    }
  }

  global_secondary_index {
    name            = "message_id"
    hash_key        = "message_id"
    projection_type = "ALL"
  }

  global_secondary_index {
    name            = "mailbox-timestamp"
    hash_key        = "mailbox"
    range_key       = "timestamp"
    projection_type = "ALL"
  }

  # Sparse: only rows that something is still to be done about have `due`.
  global_secondary_index {
    name            = "due"
    hash_key        = "due"
    range_key       = "next_attempt_at"
    projection_type = "KEYS_ONLY"
  }

  # Only closed rows have `expires_at`.
  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.mesh.arn
  }
}

# Which execution has a mailbox, and until when.
resource "aws_dynamodb_table" "leases" {
  name                        = "${local.name}-leases"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "lease_id"
  deletion_protection_enabled = local.deletion_protection
  tags                        = local.tags

  attribute {
    name = "lease_id"
    type = "S"
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.mesh.arn
  }
}
