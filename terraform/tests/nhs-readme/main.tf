# The block that the README of NHS England's module shows, with nothing changed but `source`, and the network that it names
# in the same configuration: none of its ids is known when it is planned.

module "mesh" {
  source = "../.."

  name_prefix                 = "${var.env}-example-project"
  mesh_env                    = "production"
  vpc_id                      = aws_vpc.my_vpc.id
  subnet_ids                  = aws_subnet.private.*.id
  mailbox_ids                 = ["X26ABC123", "X26ABC456"]
  verify_ssl                  = true
  get_message_max_concurrency = 10
  compress_threshold          = 1 * 1024 * 1024

  aws_s3_endpoint_prefix_list_id = aws_vpc_endpoint.s3.prefix_list_id
  aws_ssm_endpoint_sg_id         = tolist(aws_vpc_endpoint.ssm.security_group_ids)[0]
  aws_sfn_endpoint_sg_id         = tolist(aws_vpc_endpoint.sfn.security_group_ids)[0]
  aws_logs_endpoints_sg_id       = tolist(aws_vpc_endpoint.logs.security_group_ids)[0]
  aws_kms_endpoints_sg_id        = tolist(aws_vpc_endpoint.kms.security_group_ids)[0]
  aws_lambda_endpoints_sg_id     = tolist(aws_vpc_endpoint.lambda.security_group_ids)[0]
  aws_secrets_endpoints_sg_id    = tolist(aws_vpc_endpoint.secrets.security_group_ids)[0]
}

variable "env" {
  type = string
}

resource "aws_vpc" "my_vpc" {
  cidr_block = "10.0.0.0/16"
}

resource "aws_subnet" "private" {
  count      = 2
  vpc_id     = aws_vpc.my_vpc.id
  cidr_block = "10.0.${count.index}.0/24"
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id       = aws_vpc.my_vpc.id
  service_name = "com.amazonaws.eu-west-2.s3"
}

resource "aws_security_group" "endpoint" {
  for_each = toset(["ssm", "states", "logs", "kms", "lambda", "secretsmanager"])
  name     = each.key
  vpc_id   = aws_vpc.my_vpc.id
}

resource "aws_vpc_endpoint" "ssm" {
  vpc_id             = aws_vpc.my_vpc.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.eu-west-2.ssm"
  security_group_ids = [aws_security_group.endpoint["ssm"].id]
}

resource "aws_vpc_endpoint" "sfn" {
  vpc_id             = aws_vpc.my_vpc.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.eu-west-2.states"
  security_group_ids = [aws_security_group.endpoint["states"].id]
}

resource "aws_vpc_endpoint" "logs" {
  vpc_id             = aws_vpc.my_vpc.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.eu-west-2.logs"
  security_group_ids = [aws_security_group.endpoint["logs"].id]
}

resource "aws_vpc_endpoint" "kms" {
  vpc_id             = aws_vpc.my_vpc.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.eu-west-2.kms"
  security_group_ids = [aws_security_group.endpoint["kms"].id]
}

resource "aws_vpc_endpoint" "lambda" {
  vpc_id             = aws_vpc.my_vpc.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.eu-west-2.lambda"
  security_group_ids = [aws_security_group.endpoint["lambda"].id]
}

resource "aws_vpc_endpoint" "secrets" {
  vpc_id             = aws_vpc.my_vpc.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.eu-west-2.secretsmanager"
  security_group_ids = [aws_security_group.endpoint["secretsmanager"].id]
}

output "mesh" {
  value = module.mesh
}
