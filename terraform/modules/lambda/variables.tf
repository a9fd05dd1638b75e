variable "name" {
  type        = string
  description = "The function's name; its role is `<name>-role`, its policy `<name>-policy`."
}

variable "description" {
  type        = string
  description = "What the function does, in a line."
}

variable "zip" {
  type        = string
  description = "Path of the zip that holds `bootstrap`."
}

variable "environment" {
  type        = map(string)
  description = "Environment variables: settings alone, never a secret."
}

variable "policy" {
  type        = string
  description = "IAM policy (JSON) of what the function may do besides writing its log."
}

variable "log_group_arn" {
  type        = string
  description = "Log group of the function. Made outside, before the function: Lambda's own would have neither key nor retention."
}

variable "memory_size" {
  type        = number
  description = "MiB."
}

variable "timeout" {
  type        = number
  description = "Seconds."
}

variable "tags" {
  type        = map(string)
  description = "Tags of the function and its role."
}
