# Legacy mappings: senders, recipients and workflows by folder, for objects without mex-from.
module "mailboxes" {
  source   = "./modules/mailboxes"
  for_each = { for mailbox in var.mailboxes : mailbox.id => mailbox }

  secrets_prefix    = local.secrets_prefix
  bucket            = local.name
  mailbox_id        = each.key
  outbound_mappings = each.value.outbound_mappings
  tags              = local.tags
}
