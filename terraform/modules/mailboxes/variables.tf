variable "secrets_prefix" {
  type        = string
  description = "What the parameters' names begin with: `/<name>/mesh`."
}

variable "bucket" {
  type        = string
  description = "Bucket of the messages."
}

variable "mailbox_id" {
  type        = string
  description = "The mailbox."
}

variable "outbound_mappings" {
  type = list(object({
    dest_mailbox = string
    workflow_id  = string
  }))
  description = "Recipients, each with the workflow that its messages have."
}

variable "tags" {
  type        = map(string)
  description = "Tags of the parameters."
}
