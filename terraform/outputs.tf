output "mesh_s3_bucket_name" {
  description = "Bucket of the messages: received ones below `inbound/<mailbox>/`, those to send below `outbound`."
  value       = aws_s3_bucket.mesh.bucket
}

output "mesh_s3_logs_bucket_name" {
  description = "Bucket of the message bucket's access logs."
  value       = aws_s3_bucket.s3logs.bucket
}

output "mesh_kms_key_arn" {
  description = "Key of bucket, tables, logs and queue. Whoever reads or puts objects needs kms:Decrypt and kms:GenerateDataKey on it."
  value       = aws_kms_key.mesh.arn
}

output "messages_table_name" {
  description = "Table with a row for each message, received or sent."
  value       = aws_dynamodb_table.messages.name
}

output "leases_table_name" {
  description = "Table of which execution has which mailbox."
  value       = aws_dynamodb_table.leases.name
}

output "dead_letter_queue_url" {
  description = "Queue of the S3 events that started no send."
  value       = aws_sqs_queue.send_messages_dead_letter.url
}

output "dead_letter_queue_arn" {
  description = "ARN of that queue, for alarms."
  value       = aws_sqs_queue.send_messages_dead_letter.arn
}

output "alarm_arns" {
  description = "ARNs of the CloudWatch alarms by their names without the prefix; empty without `alarms_enabled`."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.arn }
}

output "step_function_get_messages_arn" {
  description = "State machine that receives; input `{\"mailbox\": \"<id>\"}`."
  value       = aws_sfn_state_machine.get_messages.arn
}

output "step_function_get_messages_log_group_name" {
  description = "Its log group."
  value       = aws_cloudwatch_log_group.get_messages.name
}

output "step_function_send_messages_arn" {
  description = "State machine that sends."
  value       = aws_sfn_state_machine.send_message.arn
}

output "step_function_send_message_log_group_name" {
  description = "Its log group."
  value       = aws_cloudwatch_log_group.send_message.name
}

output "step_function_track_messages_arn" {
  description = "State machine that takes up interrupted sends and follows up sent messages."
  value       = aws_sfn_state_machine.track_messages.arn
}

output "step_function_track_messages_log_group_name" {
  description = "Its log group."
  value       = aws_cloudwatch_log_group.track_messages.name
}

output "lambda_poll_mailbox_log_group_name" {
  description = "Log group of the function that lists messages."
  value       = aws_cloudwatch_log_group.poll_mailbox.name
}

output "lambda_fetch_message_chunk_log_group_name" {
  description = "Log group of the function that stores messages."
  value       = aws_cloudwatch_log_group.fetch_message_chunk.name
}

output "lambda_acknowledge_message_log_group_name" {
  description = "Log group of the function that acknowledges messages."
  value       = aws_cloudwatch_log_group.acknowledge_message.name
}

output "lambda_send_message_chunk_log_group_name" {
  description = "Log group of the function that sends."
  value       = aws_cloudwatch_log_group.send_message_chunk.name
}

output "lambda_track_message_log_group_name" {
  description = "Log group of the function that follows up."
  value       = aws_cloudwatch_log_group.track_message.name
}

output "lambda_check_send_parameters_log_group_name" {
  description = "Log group of a function of the NHS's module, kept with its lines. Nothing new comes in: what it checked is checked, and logged, by the function that sends."
  value       = aws_cloudwatch_log_group.check_send_parameters.name
}

output "poll_mailbox_sg_id" {
  description = "Security group of the function that lists messages, for the endpoints to let in; empty without a VPC."
  value       = local.in_vpc ? aws_security_group.poll_mailbox[0].id : ""
}

output "get_messages_sg_id" {
  description = "Security group of the functions that store and acknowledge messages, for the endpoints to let in; empty without a VPC."
  value       = local.in_vpc ? aws_security_group.fetch_message_chunk[0].id : ""
}

output "send_message_sg_id" {
  description = "Security group of the functions that send and follow up, for the endpoints to let in; empty without a VPC."
  value       = local.in_vpc ? aws_security_group.send_message_chunk[0].id : ""
}
