# What is deployed

variable "name_prefix" {
  type        = string
  description = "Every resource is named `<name_prefix>-mesh…`."
  nullable    = false

  # 30: the longest name is `<name_prefix>-mesh-get-messages-handshake-event`, and a role's name
  # may have 64 characters. Lower case: bucket names.
  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$", var.name_prefix))
    error_message = "name_prefix must be 1 to 30 lower-case letters, digits or hyphens, with a letter or digit first and last: it starts the names of buckets and roles."
  }
}

variable "function_zips_dir" {
  type        = string
  description = "Folder of the functions' zips (poll.zip, fetch-chunk.zip, ack.zip, send.zip). Default: `dist` beside this module, where `make build` puts them."
  default     = null
}

variable "tags" {
  type        = map(string)
  description = "Tags for every resource; they win over the module's own (`Application`, `MeshEnvironment`)."
  default     = {}
  nullable    = false
}

variable "force_destroy" {
  type        = bool
  description = "Lets `terraform destroy` delete the bucket with its objects and the tables with their rows. For demos and tests: a message that was acknowledged exists nowhere else."
  default     = false
  nullable    = false
}

# MESH

variable "mesh_env" {
  type        = string
  description = "MESH environment: `integration` or `production` pick the NHS's URL, `local` takes `mesh_url`."
  nullable    = false

  validation {
    condition     = contains(["local", "integration", "production"], var.mesh_env)
    error_message = "mesh_env must be local, integration or production."
  }
}

variable "mesh_url" {
  type        = string
  description = "URL of MESH, instead of the environment's. Needed when mesh_env is `local`."
  default     = null

  validation {
    condition     = var.mesh_url != null || var.mesh_env != "local"
    error_message = "mesh_env = \"local\" has no URL of its own: set mesh_url, such as https://localhost:8700."
  }

  # https alone: the functions authenticate with a client certificate.
  validation {
    condition     = var.mesh_url == null || can(regex("^https://[^/?#]+/?$", var.mesh_url))
    error_message = "mesh_url must be https://host or https://host:port without a path: the functions add /messageexchange/…"
  }
}

variable "mailbox_ids" {
  type        = set(string)
  description = "MESH mailboxes to receive from, in upper case. Sending needs no entry here."
  nullable    = false

  # 50: an EventBridge target's id, `GetMessages<mailbox>`, may have 64 characters.
  validation {
    condition     = alltrue([for id in var.mailbox_ids : can(regex("^[A-Z0-9_-]{1,50}$", id))])
    error_message = "mailbox_ids must be MESH mailbox ids such as X26HC005: upper-case letters, digits, hyphens and underscores, at most 50. Not so: ${join(", ", [for id in var.mailbox_ids : id if !can(regex("^[A-Z0-9_-]{1,50}$", id))])}."
  }
}

variable "verify_ssl" {
  type        = bool
  description = "Whether MESH's server certificate is checked. `false` only against a sandbox."
  default     = true
  nullable    = false

  validation {
    condition     = var.verify_ssl || var.mesh_env != "production"
    error_message = "verify_ssl = false would send the production mailboxes' messages to anyone who answers: keep it true."
  }
}

# Receiving

variable "get_messages_enabled" {
  type        = bool
  description = "Whether mailboxes are polled by schedule. Messages that nobody collects are removed from MESH after five days."
  default     = true
  nullable    = false
}

variable "get_messages_schedule" {
  type        = string
  description = "EventBridge schedule of the polls."
  default     = "rate(1 minute)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.get_messages_schedule))
    error_message = "get_messages_schedule must be an EventBridge schedule: rate(1 minute), cron(0/5 * * * ? *)."
  }
}

variable "handshake_schedule" {
  type        = string
  description = "EventBridge schedule of the handshakes. MESH asks for one a day for each mailbox; an hourly one shows a lost connection early."
  default     = "rate(1 hour)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.handshake_schedule))
    error_message = "handshake_schedule must be an EventBridge schedule: rate(1 hour), cron(0 8 * * ? *)."
  }
}

variable "get_messages_page_limit" {
  type        = number
  description = "Messages that one execution of get-messages takes on; more waiting start the next execution."
  default     = 500
  nullable    = false

  # A message that failed before is a batch of its own, some 20 history events, and Step Functions
  # ends an execution at 25,000.
  validation {
    condition     = var.get_messages_page_limit >= 1 && var.get_messages_page_limit <= 500 && floor(var.get_messages_page_limit) == var.get_messages_page_limit
    error_message = "get_messages_page_limit must be a whole number from 1 to 500: more could let an execution pass Step Functions' 25,000 history events. Waiting messages beyond it start the next execution."
  }
}

variable "get_message_max_concurrency" {
  type        = number
  description = "Batches of a mailbox that are fetched at once."
  default     = 1
  nullable    = false

  # Step Functions runs an inline Map at a concurrency of 40 at most.
  validation {
    condition     = var.get_message_max_concurrency >= 1 && var.get_message_max_concurrency <= 40 && floor(var.get_message_max_concurrency) == var.get_message_max_concurrency
    error_message = "get_message_max_concurrency must be a whole number from 1 to 40."
  }
}

variable "fetch_batch_size" {
  type        = number
  description = "Messages in a batch: one invocation of the fetching function takes them on together."
  default     = 10
  nullable    = false

  # A batch's events are one PutEvents call, which takes ten entries.
  validation {
    condition     = var.fetch_batch_size >= 1 && var.fetch_batch_size <= 10 && floor(var.fetch_batch_size) == var.fetch_batch_size
    error_message = "fetch_batch_size must be a whole number from 1 to 10."
  }
}

# Sending

variable "chunk_size" {
  type        = number
  description = "Size in bytes of a sent chunk, before compression. Default 20 MiB."
  default     = 20971520
  nullable    = false

  # MESH takes 100 MB a request (100 x 1,000,000 bytes, less headers and gzip's overhead on data
  # that does not shrink).
  validation {
    condition     = var.chunk_size >= 1 && var.chunk_size <= 99614720 && floor(var.chunk_size) == var.chunk_size
    error_message = "chunk_size must be a whole number of bytes from 1 to 99614720 (95 MiB), because MESH takes 100 MB a request. It asks for at least 5 MB, except in the last chunk."
  }
}

variable "compress_threshold" {
  type        = number
  description = "Objects of at least so many bytes are sent compressed (gzip); 0 compresses every object. Default 20 MiB."
  default     = 20971520
  nullable    = false

  validation {
    condition     = var.compress_threshold >= 0 && floor(var.compress_threshold) == var.compress_threshold
    error_message = "compress_threshold must be a whole number of bytes, 0 or more."
  }
}

variable "never_compress" {
  type        = bool
  description = "Sends every object as it is, whatever its size and metadata."
  default     = false
  nullable    = false
}

variable "set_local_id" {
  type        = bool
  description = "Sets Mex-LocalID where the object's metadata has none, so that a send whose answer was lost can be looked up instead of being sent twice."
  default     = true
  nullable    = false
}

variable "on_uncertain_send" {
  type        = string
  description = "What to do with a send of which not even MESH's tracking tells whether it arrived: `hold` it for a person, or `resend` it and risk that it arrives twice."
  default     = "hold"
  nullable    = false

  validation {
    condition     = contains(["hold", "resend"], var.on_uncertain_send)
    error_message = "on_uncertain_send must be hold or resend."
  }
}

variable "uncertain_send_wait_seconds" {
  type        = number
  description = "Seconds after an attempt's deadline before MESH is asked whether the message arrived. Default 300: an attempt that is still under way inside MESH must have come to its end."
  default     = 300
  nullable    = false

  validation {
    condition     = var.uncertain_send_wait_seconds >= 1 && var.uncertain_send_wait_seconds <= 86400 && floor(var.uncertain_send_wait_seconds) == var.uncertain_send_wait_seconds
    error_message = "uncertain_send_wait_seconds must be a whole number from 1 to 86400."
  }
}

variable "max_attempts" {
  type        = number
  description = "Attempts at one message before it waits at growing distance and is reported."
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_attempts >= 1 && var.max_attempts <= 100 && floor(var.max_attempts) == var.max_attempts
    error_message = "max_attempts must be a whole number from 1 to 100."
  }
}

# How long things are kept

variable "message_row_retention_in_days" {
  type        = number
  description = "Days that the row of a finished message stays in the messages table. Until then a repeated event for the same object sends nothing."
  default     = 400
  nullable    = false

  # The dead-letter queue keeps an event for 14 days, and EventBridge tries for another.
  validation {
    condition     = var.message_row_retention_in_days >= 15 && var.message_row_retention_in_days <= 36500 && floor(var.message_row_retention_in_days) == var.message_row_retention_in_days
    error_message = "message_row_retention_in_days must be a whole number from 15 to 36500: an event from the dead-letter queue must still find its row, or the object would be sent twice."
  }
}

variable "mesh_s3_object_expiry_enabled" {
  type        = bool
  description = "Whether objects expire; better kept true, with messages that must last copied elsewhere. Default false, so that no message disappears unasked."
  default     = false
  nullable    = false
}

variable "mesh_s3_object_expiry_in_days" {
  type        = number
  description = "Days after which an object expires, and further days after which its old version is deleted."
  default     = 60
  nullable    = false

  validation {
    condition     = var.mesh_s3_object_expiry_in_days >= 1 && floor(var.mesh_s3_object_expiry_in_days) == var.mesh_s3_object_expiry_in_days
    error_message = "mesh_s3_object_expiry_in_days must be a whole number of at least 1."
  }
}

variable "s3logs_retention_in_days" {
  type        = number
  description = "Days that the bucket's access logs are kept."
  default     = 7
  nullable    = false

  validation {
    condition     = var.s3logs_retention_in_days >= 1 && floor(var.s3logs_retention_in_days) == var.s3logs_retention_in_days
    error_message = "s3logs_retention_in_days must be a whole number of at least 1."
  }
}

variable "cloudwatch_retention_in_days" {
  type        = number
  description = "Days that log groups keep their lines; 0 keeps them for ever."
  default     = 365
  nullable    = false

  # The periods that CloudWatch Logs offers.
  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.cloudwatch_retention_in_days)
    error_message = "cloudwatch_retention_in_days must be one of 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653."
  }
}

variable "log_level" {
  type        = string
  description = "Least severe level that the functions log."
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARN", "ERROR"], var.log_level)
    error_message = "log_level must be DEBUG, INFO, WARN or ERROR."
  }
}
