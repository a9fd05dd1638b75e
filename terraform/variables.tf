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

variable "account_id" {
  type        = string
  description = "Id of the AWS account, to make sure that it is the one meant. Default: whatever account the provider is for."
  default     = null

  validation {
    condition     = var.account_id == null || var.account_id == data.aws_caller_identity.current.account_id
    error_message = "account_id differs from the account that the provider is for: leave it out, or give the module the provider of the account that is meant."
  }
}

variable "region" {
  type        = string
  description = "AWS region, to make sure that it is the one meant. Default: the provider's region."
  default     = null

  validation {
    condition     = var.region == null || var.region == data.aws_region.current.id
    error_message = "region differs from the provider's: everything is made in the provider's region. Leave region out, or give the module a provider of that region: providers = { aws = aws.<alias> }."
  }
}

variable "function_zips_dir" {
  type        = string
  description = "Folder of the functions' zips (poll.zip, fetch-chunk.zip, ack.zip, send.zip, track.zip). Default: `dist` beside this module, or `dist/arm64` for that architecture."
  default     = null
}

variable "architecture" {
  type        = string
  description = "Processor architecture of the functions' zips: `x86_64` or `arm64`."
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64: what the functions' zips were built for."
  }
}

variable "memory" {
  type = object({
    poll_mailbox        = optional(number, 128)
    fetch_message_chunk = optional(number, 256)
    acknowledge_message = optional(number, 128)
    send_message_chunk  = optional(number, 256)
    track_message       = optional(number, 256)
  })
  description = "MiB of memory of each function. More also means more of a processor: a whole one at 1769 MiB."
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for size in values(var.memory) : try(size >= 128 && size <= 10240 && floor(size) == size, false)])
    error_message = "Each function's memory must be a whole number of MiB from 128 to 10240: ${jsonencode(var.memory)}."
  }
}

variable "fetch_message_lambda_memory_size" {
  type        = number
  description = "Old name of `memory.fetch_message_chunk`; if both are set, this one counts."
  default     = null

  validation {
    condition     = var.fetch_message_lambda_memory_size == null || try(var.fetch_message_lambda_memory_size >= 128 && var.fetch_message_lambda_memory_size <= 10240 && floor(var.fetch_message_lambda_memory_size) == var.fetch_message_lambda_memory_size, false)
    error_message = "fetch_message_lambda_memory_size must be a whole number of MiB from 128 to 10240."
  }
}

variable "send_message_lambda_memory_size" {
  type        = number
  description = "Old name of `memory.send_message_chunk`; if both are set, this one counts."
  default     = null

  validation {
    condition     = var.send_message_lambda_memory_size == null || try(var.send_message_lambda_memory_size >= 128 && var.send_message_lambda_memory_size <= 10240 && floor(var.send_message_lambda_memory_size) == var.send_message_lambda_memory_size, false)
    error_message = "send_message_lambda_memory_size must be a whole number of MiB from 128 to 10240."
  }
}

variable "timeout" {
  type = object({
    poll_mailbox        = optional(number, 300)
    fetch_message_chunk = optional(number, 900)
    acknowledge_message = optional(number, 300)
    send_message_chunk  = optional(number, 900)
    track_message       = optional(number, 300)
  })
  description = "Seconds that an invocation of each function may take. A message that needs longer goes on in the next invocation."
  default     = {}
  nullable    = false

  # Fetch and send hand over 45 and 60 seconds before their end, and must get somewhere before that.
  validation {
    condition     = alltrue([for seconds in values(var.timeout) : try(seconds >= 120 && seconds <= 900 && floor(seconds) == seconds, false)])
    error_message = "Each function's timeout must be a whole number of seconds from 120, so that it gets somewhere, to 900, Lambda's limit: ${jsonencode(var.timeout)}."
  }
}

variable "permissions_boundary" {
  type        = string
  description = "ARN of the IAM policy that bounds the permissions of every role."
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[a-z-]+:iam::(aws|[0-9]{12}):policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy: arn:aws:iam::<account>:policy/<name>."
  }
}

variable "permissions_boundary_arn" {
  type        = string
  description = "The NHS's module's name of `permissions_boundary`."
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || var.permissions_boundary == null || var.permissions_boundary_arn == var.permissions_boundary
    error_message = "permissions_boundary and permissions_boundary_arn mean the same: set one of them."
  }

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::(aws|[0-9]{12}):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of an IAM policy: arn:aws:iam::<account>:policy/<name>."
  }
}

variable "tracing_enabled" {
  type        = bool
  description = "Whether AWS X-Ray traces functions and state machines."
  default     = false
  nullable    = false
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

variable "deletion_protection" {
  type        = bool
  description = "Whether AWS refuses to delete the tables. Default: true, unless `force_destroy` is set."
  default     = null
}

variable "manage_bucket_notifications" {
  type        = bool
  description = "Whether the module owns the bucket's notification configuration, of which S3 takes one. `false`: keep your own `aws_s3_bucket_notification` and set `eventbridge = true` in it, or nothing is sent."
  default     = true
  nullable    = false
}

variable "bucket_key_enabled" {
  type        = bool
  description = "Whether the bucket uses S3 bucket keys: fewer calls of KMS, which then names the bucket and not the object in its records."
  default     = true
  nullable    = false
}

variable "additional_bucket_policy_json" {
  type        = string
  description = "Policy document (JSON) whose statements are added to the bucket's policy."
  default     = null

  validation {
    condition     = var.additional_bucket_policy_json == null || can(jsondecode(var.additional_bucket_policy_json).Statement)
    error_message = "additional_bucket_policy_json must be a policy document in JSON with a Statement, such as data.aws_iam_policy_document.<name>.json."
  }
}

variable "additional_kms_key_policy_json" {
  type        = string
  description = "Policy document (JSON) whose statements are added to the key's policy."
  default     = null

  validation {
    condition     = var.additional_kms_key_policy_json == null || can(jsondecode(var.additional_kms_key_policy_json).Statement)
    error_message = "additional_kms_key_policy_json must be a policy document in JSON with a Statement, such as data.aws_iam_policy_document.<name>.json."
  }
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
  description = "MESH mailboxes to receive from, in upper case. Any mailbox that has a password may send without an entry, but only one that is listed shakes hands with MESH, and gets MESH's reports on what it sent."
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

variable "verify_checks_common_name" {
  type        = bool
  description = "Whether a server certificate that has no DNS name as subjectAltName may name the host in its common name."
  default     = true
  nullable    = false
}

variable "use_secrets_manager" {
  type        = bool
  description = "Whether client key, shared key and mailbox passwords are read from Secrets Manager, under the same names, instead of SSM. The two certificates stay in SSM."
  default     = false
  nullable    = false
}

variable "secrets_kms_key_arns" {
  type        = set(string)
  description = "ARNs of your own KMS keys that the secrets are encrypted with. The AWS managed keys and the module's own need no entry."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.secrets_kms_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", arn))])
    error_message = "secrets_kms_key_arns must be ARNs of keys, arn:aws:kms:<region>:<account>:key/<id>: permissions don't hold for an alias."
  }
}

variable "mailboxes" {
  type = list(object({
    id = string
    outbound_mappings = list(object({
      dest_mailbox = string
      workflow_id  = string
    }))
  }))
  description = "Legacy mappings, written to SSM: an object put below `outbound_<id>_to_<dest_mailbox>/` without `mex-from` is sent from id to dest_mailbox with workflow_id; `inbound_<id>` is where `use_legacy_inbound_location` stores. Polls nothing."
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for id in flatten([for mailbox in var.mailboxes : concat([mailbox.id], mailbox.outbound_mappings[*].dest_mailbox)]) :
      can(regex("^[A-Z0-9_-]{1,50}$", id))
    ])
    error_message = "id and dest_mailbox of mailboxes must be MESH mailbox ids such as X26HC005: upper-case letters, digits, hyphens and underscores, at most 50. Not so: ${join(", ", [for id in distinct(flatten([for mailbox in var.mailboxes : concat([mailbox.id], mailbox.outbound_mappings[*].dest_mailbox)])) : id if !can(regex("^[A-Z0-9_-]{1,50}$", id))])}."
  }

  validation {
    condition     = length(distinct(var.mailboxes[*].id)) == length(var.mailboxes)
    error_message = "An id is in mailboxes twice: put its outbound_mappings into one entry. These: ${join(", ", [for id in distinct(var.mailboxes[*].id) : id if length([for mailbox in var.mailboxes : mailbox if mailbox.id == id]) > 1])}."
  }

  # The folder names sender and recipient, and nothing else.
  validation {
    condition = alltrue([
      for mailbox in var.mailboxes : length(distinct(mailbox.outbound_mappings[*].dest_mailbox)) == length(mailbox.outbound_mappings)
    ])
    error_message = "A mailbox of mailboxes has two outbound_mappings to the same dest_mailbox, but a folder outbound_<id>_to_<dest_mailbox> has one workflow: keep one, and give the other objects mex-from, mex-to and mex-workflowid as metadata. These: ${join(", ", [for mailbox in var.mailboxes : mailbox.id if length(distinct(mailbox.outbound_mappings[*].dest_mailbox)) < length(mailbox.outbound_mappings)])}."
  }

  validation {
    condition     = alltrue([for workflow in flatten(var.mailboxes[*].outbound_mappings[*].workflow_id) : length(workflow) > 0])
    error_message = "A workflow_id of mailboxes is empty: MESH needs one for each message. Of: ${join(", ", [for mailbox in var.mailboxes : mailbox.id if !alltrue([for workflow in mailbox.outbound_mappings[*].workflow_id : length(workflow) > 0])])}."
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

  # Step Functions takes 256 KiB between two states: 500 of the longest ids stay below that even if each message fails.
  validation {
    condition     = var.get_messages_page_limit >= 1 && var.get_messages_page_limit <= 500 && floor(var.get_messages_page_limit) == var.get_messages_page_limit
    error_message = "get_messages_page_limit must be a whole number from 1 to 500, so that a page fits between two states of Step Functions. Waiting messages beyond it start the next execution."
  }
}

variable "get_message_max_concurrency" {
  type        = number
  description = "Batches of a mailbox that are fetched at once. At 1, messages are stored in the order of the inbox."
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

variable "use_sender_filename" {
  type        = bool
  description = "Whether a message is stored under the name that its sender gave it (`mex-filename`) instead of `<message id>.dat`."
  default     = false
  nullable    = false
}

variable "use_legacy_inbound_location" {
  type        = bool
  description = "Whether bucket and folder of received messages are read from SSM: `/<name>/mesh/mailboxes/<mailbox>/INBOUND_BUCKET` and `INBOUND_FOLDER`."
  default     = false
  nullable    = false
}

variable "legacy_inbound_bucket_arns" {
  type        = set(string)
  description = "ARNs of the buckets other than the module's that `INBOUND_BUCKET` names."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.legacy_inbound_bucket_arns : can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", arn))])
    error_message = "legacy_inbound_bucket_arns must be ARNs of buckets: arn:aws:s3:::<bucket>."
  }

  validation {
    condition     = !contains([for arn in var.legacy_inbound_bucket_arns : reverse(split(":", arn))[0]], "${var.name_prefix}-mesh")
    error_message = "legacy_inbound_bucket_arns names the module's own bucket: leave it out. A mailbox without INBOUND_BUCKET is stored there."
  }

  validation {
    condition     = var.use_legacy_inbound_location || length(var.legacy_inbound_bucket_arns) == 0
    error_message = "legacy_inbound_bucket_arns has no use without use_legacy_inbound_location = true."
  }
}

variable "legacy_inbound_kms_key_arns" {
  type        = set(string)
  description = "ARNs of the KMS keys that those buckets are encrypted with."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.legacy_inbound_kms_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", arn))])
    error_message = "legacy_inbound_kms_key_arns must be ARNs of keys, arn:aws:kms:<region>:<account>:key/<id>: permissions don't hold for an alias."
  }

  validation {
    condition     = var.use_legacy_inbound_location || length(var.legacy_inbound_kms_key_arns) == 0
    error_message = "legacy_inbound_kms_key_arns has no use without use_legacy_inbound_location = true."
  }
}

variable "fetch_message_ephemeral_storage_size" {
  type        = number
  description = "Without effect: messages are streamed, no disk is needed. Accepted for configurations of the NHS's module."
  default     = 10240
}

# Sending

variable "send_messages_enabled" {
  type        = bool
  description = "Whether objects are sent. While `false` they wait, each with a row; when it is `true` again they are sent. What is under way is finished."
  default     = true
  nullable    = false
}

variable "send_max_concurrency" {
  type        = number
  description = "Objects that are sent at once: Lambda concurrency that is reserved for sending. Others wait, about five days at most, and no alarm sounds for that. Default: no limit but the account's."
  default     = null

  validation {
    condition     = var.send_max_concurrency == null || try(var.send_max_concurrency >= 1 && floor(var.send_max_concurrency) == var.send_max_concurrency, false)
    error_message = "send_max_concurrency must be a whole number of at least 1. To stop sending, set send_messages_enabled = false."
  }
}

variable "send_copied_objects" {
  type        = bool
  description = "Whether an object that is copied to a key below `outbound` is sent, too. By default only a put or a completed multipart upload sends, which a copy made in parts is as well."
  default     = false
  nullable    = false
}

variable "use_s3_key_for_mex_filename" {
  type        = bool
  description = "Whether the last part of the object's key is sent as `mex-filename` where its metadata has none."
  default     = false
  nullable    = false
}

variable "track_messages_schedule" {
  type        = string
  description = "EventBridge schedule of the tracking run: interrupted sends are taken up again, and MESH is asked whether sent messages were collected."
  default     = "rate(5 minutes)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.track_messages_schedule))
    error_message = "track_messages_schedule must be an EventBridge schedule: rate(5 minutes), cron(0/5 * * * ? *)."
  }
}

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

variable "crumb_size" {
  type        = number
  description = "Without effect: there is no read buffer to size. Accepted for configurations of the NHS's module."
  default     = null
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

variable "compression_level" {
  type        = number
  description = "Level of gzip for what is sent compressed: 1 is the fastest, 9 the smallest."
  default     = 6
  nullable    = false

  validation {
    condition     = var.compression_level >= 1 && var.compression_level <= 9 && floor(var.compression_level) == var.compression_level
    error_message = "compression_level must be a whole number from 1 to 9; never_compress sends without."
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
  description = "Seconds before MESH is asked whether a message arrived whose answer was lost: from the loss on, or from the deadline of an invocation that ended before it knew. Default 300: what is still under way inside MESH must have come to its end."
  default     = 300
  nullable    = false

  validation {
    condition     = var.uncertain_send_wait_seconds >= 1 && var.uncertain_send_wait_seconds <= 86400 && floor(var.uncertain_send_wait_seconds) == var.uncertain_send_wait_seconds
    error_message = "uncertain_send_wait_seconds must be a whole number from 1 to 86400."
  }
}

variable "max_attempts" {
  type        = number
  description = "Attempts at one message before it waits at increasing intervals and is reported."
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_attempts >= 1 && var.max_attempts <= 100 && floor(var.max_attempts) == var.max_attempts
    error_message = "max_attempts must be a whole number from 1 to 100."
  }
}

variable "accept_encoding" {
  type        = string
  description = "How MESH may hand messages over (HTTP's Accept-Encoding): `gzip`, or `identity`, with which MESH undoes what a sender has compressed. Objects are stored decoded either way."
  default     = "gzip"
  nullable    = false

  validation {
    condition     = contains(["gzip", "identity"], var.accept_encoding)
    error_message = "accept_encoding must be gzip or identity."
  }
}

variable "max_message_size" {
  type        = number
  description = "Bytes after decoding that a received message may have; a larger one stays in MESH, and its row says so. Default 100 GB (100 x 1,000,000,000 bytes), MESH's own limit."
  default     = 100000000000
  nullable    = false

  # An S3 upload of 10,000 parts, as the function divides it, holds no more.
  validation {
    condition     = var.max_message_size >= 1 && var.max_message_size <= 125829120000 && floor(var.max_message_size) == var.max_message_size
    error_message = "max_message_size must be a whole number of bytes from 1 to 125829120000."
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
  description = "Whether objects expire, sent, read or not. Off by default, so that no message disappears unasked; if it is on, copy elsewhere what must last."
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
  description = "Days that the trail's files are kept."
  default     = 7
  nullable    = false

  validation {
    condition     = var.s3logs_retention_in_days >= 1 && floor(var.s3logs_retention_in_days) == var.s3logs_retention_in_days
    error_message = "s3logs_retention_in_days must be a whole number of at least 1."
  }
}

variable "access_logs_retention_in_days" {
  type        = number
  description = "Days that the bucket's access logs are kept; `null` keeps them for ever, as the NHS's module does."
  default     = null

  validation {
    condition     = var.access_logs_retention_in_days == null || try(var.access_logs_retention_in_days >= 1 && floor(var.access_logs_retention_in_days) == var.access_logs_retention_in_days, false)
    error_message = "access_logs_retention_in_days must be a whole number of at least 1, or null."
  }
}

variable "cloudwatch_retention_in_days" {
  type        = number
  description = "Days that log groups keep their lines; 0 or `null` keeps them for ever."
  default     = 365

  # The periods that CloudWatch Logs offers.
  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], coalesce(var.cloudwatch_retention_in_days, 0))
    error_message = "cloudwatch_retention_in_days must be one of 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653."
  }
}

# CloudTrail

variable "cloudtrail_enabled" {
  type        = bool
  description = "Whether a CloudTrail trail records puts into the bucket, for rules that match CloudTrail's events. Sending needs none: new users set it to `false` and save its price."
  default     = true
  nullable    = false
}

variable "cloudtrail_log_group_name" {
  type        = string
  description = "Name of the trail's log group. Default: `/aws/cloudtrail/<name_prefix>-mesh`. With a name the group stays, with its lines, when the trail is switched off."
  default     = null

  validation {
    condition     = var.cloudtrail_log_group_name == null || can(regex("^[A-Za-z0-9_/.#-]{1,512}$", var.cloudtrail_log_group_name))
    error_message = "cloudtrail_log_group_name must be 1 to 512 letters, digits or characters of _ / . # -."
  }
}

variable "cloudtrail_cloudwatch_log_retention_in_days" {
  type        = number
  description = "Days that the trail's log group keeps its lines; 0 or `null` keeps them for ever."
  default     = 30

  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], coalesce(var.cloudtrail_cloudwatch_log_retention_in_days, 0))
    error_message = "cloudtrail_cloudwatch_log_retention_in_days must be one of 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653."
  }
}

variable "log_level" {
  type        = string
  description = "Least severe level that the functions log. With `alarms_enabled` the one that follows up logs `INFO` at least: its lines are what alarms count."
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARN", "ERROR"], var.log_level)
    error_message = "log_level must be DEBUG, INFO, WARN or ERROR."
  }
}

# Alarms

variable "alarms_enabled" {
  type        = bool
  description = "Whether CloudWatch alarms are made: the dead-letter queue, failed executions, functions that go on failing, polls and tracking runs that stop, messages that are held, overdue, poison or undelivered, a certificate that expires. `docs/runbook.md` says what to do about each."
  default     = true
  nullable    = false
}

variable "alarm_actions" {
  type        = list(string)
  description = "ARNs that an alarm tells, such as an SNS topic's. Without any an alarm is seen in CloudWatch alone."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alarm_actions : can(regex("^arn:[a-z-]+:[a-z0-9-]+:", arn))])
    error_message = "alarm_actions must be ARNs, such as arn:aws:sns:<region>:<account>:<topic>."
  }

  # CloudWatch takes five.
  validation {
    condition     = length(var.alarm_actions) <= 5
    error_message = "alarm_actions may have five ARNs: have an SNS topic tell the others."
  }
}

variable "ok_actions" {
  type        = list(string)
  description = "ARNs that an alarm tells when its cause is gone."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.ok_actions : can(regex("^arn:[a-z-]+:[a-z0-9-]+:", arn))])
    error_message = "ok_actions must be ARNs, such as arn:aws:sns:<region>:<account>:<topic>."
  }

  validation {
    condition     = length(var.ok_actions) <= 5
    error_message = "ok_actions may have five ARNs: have an SNS topic tell the others."
  }
}

variable "poll_alarm_minutes" {
  type        = number
  description = "Minutes in which no poll is started until the alarms `get-messages…-stopped`, at least two runs of `get_messages_schedule`; 0: no such alarm. Default: 60, or two runs that take longer; 0 if they take more than a day. A `cron` counts as one that runs often."
  default     = null

  # 1440: an alarm looks back a day.
  validation {
    condition     = var.poll_alarm_minutes == null || try(var.poll_alarm_minutes == 0 || (var.poll_alarm_minutes >= 10 && var.poll_alarm_minutes <= 1440 && var.poll_alarm_minutes % 5 == 0), false)
    error_message = "poll_alarm_minutes must be a multiple of 5 from 10 to 1440, or 0."
  }

  validation {
    condition     = !var.alarms_enabled || var.poll_alarm_minutes == null || try(var.poll_alarm_minutes == 0 || var.poll_alarm_minutes >= 2 * local.schedule_minutes.polls, false)
    error_message = "poll_alarm_minutes is less than two polls by ${var.get_messages_schedule} take: the alarm would sound though all is well. Set more, or 0."
  }
}

variable "track_alarm_minutes" {
  type        = number
  description = "Minutes in which no tracking run succeeds until the alarm `track-not-running`; 0: no such alarm. At least two runs of `track_messages_schedule`."
  default     = 30
  nullable    = false

  validation {
    condition     = var.track_alarm_minutes == 0 || (var.track_alarm_minutes >= 10 && var.track_alarm_minutes <= 1440 && var.track_alarm_minutes % 5 == 0)
    error_message = "track_alarm_minutes must be a multiple of 5 from 10 to 1440, or 0."
  }

  validation {
    condition     = !var.alarms_enabled || var.track_alarm_minutes == 0 || var.track_alarm_minutes >= 2 * local.schedule_minutes.track
    error_message = "track_alarm_minutes is less than two runs by ${var.track_messages_schedule} take: the alarm would sound though all is well. Set more, or 0."
  }
}

# Network

variable "vpc_id" {
  type        = string
  description = "VPC to run the functions in; empty: none. It needs a way to MESH, gateway endpoints for S3 and DynamoDB, and interface endpoints for SSM and Step Functions, and for Secrets Manager if that is used."
  default     = ""
  nullable    = false

  validation {
    condition     = var.vpc_id != "" || length(var.subnet_ids) == 0
    error_message = "subnet_ids are set, but vpc_id is not: set both to run the functions in a VPC, or neither."
  }

  validation {
    condition     = var.vpc_id == "" || length(var.subnet_ids) > 0
    error_message = "vpc_id is set, but subnet_ids are not: set both to run the functions in a VPC, or neither."
  }
}

variable "subnet_ids" {
  type        = set(string)
  description = "Subnets of that VPC to run the functions in."
  default     = []
  nullable    = false
}

variable "mesh_cidr_blocks" {
  type        = set(string)
  description = "Addresses that the functions in a VPC may reach MESH at. Default: those that the NHS publishes for the environment; `local` has none."
  default     = null

  validation {
    condition     = var.mesh_cidr_blocks == null || try(length(var.mesh_cidr_blocks) > 0 && alltrue([for block in var.mesh_cidr_blocks : can(cidrhost(block, 0))]), false)
    error_message = "mesh_cidr_blocks must be address ranges such as 192.0.2.1/32, at least one."
  }

  validation {
    condition     = length(var.subnet_ids) == 0 || var.mesh_env != "local" || var.mesh_cidr_blocks != null
    error_message = "mesh_env = \"local\" has no addresses of its own: in a VPC, set mesh_cidr_blocks."
  }
}

variable "aws_s3_endpoint_prefix_list_id" {
  type        = string
  description = "Prefix list of the VPC's gateway endpoint for S3."
  default     = ""
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) == 0 || var.aws_s3_endpoint_prefix_list_id != ""
    error_message = "In a VPC, aws_s3_endpoint_prefix_list_id is needed: the functions read and write objects. Set it to aws_vpc_endpoint.<name>.prefix_list_id of the gateway endpoint for S3."
  }
}

variable "aws_ssm_endpoint_sg_id" {
  type        = string
  description = "Security group of the VPC's endpoint for SSM."
  default     = ""
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) == 0 || var.aws_ssm_endpoint_sg_id != ""
    error_message = "In a VPC, aws_ssm_endpoint_sg_id is needed: every function reads parameters. Set it to the security group of the interface endpoint for SSM."
  }
}

variable "aws_sfn_endpoint_sg_id" {
  type        = string
  description = "Security group of the VPC's endpoint for Step Functions."
  default     = ""
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) == 0 || var.aws_sfn_endpoint_sg_id != ""
    error_message = "In a VPC, aws_sfn_endpoint_sg_id is needed: the tracking run starts interrupted sends again. Set it to the security group of the interface endpoint for Step Functions (states)."
  }
}

variable "aws_secrets_endpoints_sg_id" {
  type        = string
  description = "Security group of the VPC's endpoint for Secrets Manager; needed with `use_secrets_manager`."
  default     = ""
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) == 0 || !var.use_secrets_manager || var.aws_secrets_endpoints_sg_id != ""
    error_message = "In a VPC, aws_secrets_endpoints_sg_id is needed: with use_secrets_manager every function reads secrets. Set it to the security group of the interface endpoint for Secrets Manager."
  }
}

variable "aws_logs_endpoints_sg_id" {
  type        = string
  description = "Security group of the VPC's endpoint for CloudWatch Logs. The functions may reach it, but don't call it: AWS does, from outside the VPC."
  default     = ""
  nullable    = false
}

variable "aws_kms_endpoints_sg_id" {
  type        = string
  description = "Security group of the VPC's endpoint for KMS. The functions may reach it, but don't call it: AWS does, from outside the VPC."
  default     = ""
  nullable    = false
}

variable "aws_lambda_endpoints_sg_id" {
  type        = string
  description = "Security group of the VPC's endpoint for Lambda. The functions may reach it, but don't call it: AWS does, from outside the VPC."
  default     = ""
  nullable    = false
}
