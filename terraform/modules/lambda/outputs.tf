output "arn" {
  description = "ARN of the function without a version."
  value       = aws_lambda_function.this.arn
}

output "qualified_arn" {
  description = "ARN of the published version."
  value       = aws_lambda_function.this.qualified_arn
}
