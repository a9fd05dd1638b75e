# A mailbox's legacy mappings, as parameters that the functions read. Mailbox and workflow ids are no secrets.

locals {
  # The first mapping has the key that the NHS's module gives it: a state moves in without a parameter of the same
  # name being made before the old one is gone.
  outbound_mappings = {
    for index, mapping in var.outbound_mappings :
    (index == 0 ? var.mailbox_id : "${var.mailbox_id}_to_${mapping.dest_mailbox}") => mapping
  }
  outbound_prefix = {
    for key, mapping in local.outbound_mappings :
    key => "${var.secrets_prefix}/mapping/${var.bucket}/outbound_${var.mailbox_id}_to_${mapping.dest_mailbox}"
  }
  inbound_prefix = "${var.secrets_prefix}/mailboxes/${var.mailbox_id}"
}

resource "aws_ssm_parameter" "mailbox_inbound_bucket" {
  #checkov:skip=CKV2_AWS_34:No secret, and the NHS's module made it so
  name        = "${local.inbound_prefix}/INBOUND_BUCKET"
  description = "Bucket of the messages that ${var.mailbox_id} receives"
  type        = "String"
  value       = var.bucket
  tags        = var.tags
}

resource "aws_ssm_parameter" "mailbox_inbound_folder" {
  #checkov:skip=CKV2_AWS_34:No secret, and the NHS's module made it so
  name        = "${local.inbound_prefix}/INBOUND_FOLDER"
  description = "Folder of the messages that ${var.mailbox_id} receives"
  type        = "String"
  value       = "inbound_${var.mailbox_id}"
  tags        = var.tags
}

resource "aws_ssm_parameter" "outbound_mappings_src_mailbox" {
  #checkov:skip=CKV2_AWS_34:No secret, and the NHS's module made it so
  for_each    = local.outbound_mappings
  name        = "${local.outbound_prefix[each.key]}/src_mailbox"
  description = "Sender of the objects in this folder"
  type        = "String"
  value       = var.mailbox_id
  tags        = var.tags
}

resource "aws_ssm_parameter" "outbound_mappings_dest_mailbox" {
  #checkov:skip=CKV2_AWS_34:No secret, and the NHS's module made it so
  for_each    = local.outbound_mappings
  name        = "${local.outbound_prefix[each.key]}/dest_mailbox"
  description = "Recipient of the objects in this folder"
  type        = "String"
  value       = each.value.dest_mailbox
  tags        = var.tags
}

resource "aws_ssm_parameter" "outbound_mappings_workflow_id" {
  #checkov:skip=CKV2_AWS_34:No secret, and the NHS's module made it so
  for_each    = local.outbound_mappings
  name        = "${local.outbound_prefix[each.key]}/workflow_id"
  description = "MESH workflow of the objects in this folder"
  type        = "String"
  value       = each.value.workflow_id
  tags        = var.tags
}
