terraform {
  # 1.9: a variable's validation may look at other variables (mesh_url and mesh_env).
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # 5.27: `state` of aws_cloudwatch_event_rule; 5.26: runtime provided.al2023.
      version = ">= 5.27, < 7"
    }
  }
}
