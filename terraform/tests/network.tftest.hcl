# In a VPC the functions reach MESH and AWS's endpoints, and nothing else.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix                    = "demo"
  mesh_env                       = "production"
  mailbox_ids                    = ["X26ABC1"]
  vpc_id                         = "vpc-1"
  subnet_ids                     = ["subnet-1", "subnet-2"]
  aws_s3_endpoint_prefix_list_id = "pl-s3"
  aws_ssm_endpoint_sg_id         = "sg-ssm"
  aws_sfn_endpoint_sg_id         = "sg-sfn"
}

run "without_a_vpc" {
  command = plan

  variables {
    vpc_id     = ""
    subnet_ids = []
  }

  assert {
    condition     = length(aws_security_group.poll_mailbox) + length(aws_security_group.fetch_message_chunk) + length(aws_security_group.send_message_chunk) == 0
    error_message = "no security group"
  }

  assert {
    condition     = alltrue([for id in [output.poll_mailbox_sg_id, output.get_messages_sg_id, output.send_message_sg_id] : id == ""])
    error_message = "the outputs are empty"
  }

  assert {
    condition     = length(aws_lambda_function.poll_mailbox.vpc_config) == 0
    error_message = "the functions run outside"
  }

  assert {
    condition     = !strcontains(jsonencode([for statements in values(data.aws_iam_policy_document.function)[*].statement : statements[*].actions]), "ec2:")
    error_message = "no function has to do with networks"
  }
}

run "in_a_vpc" {
  command = plan

  assert {
    condition = {
      for group in [aws_security_group.poll_mailbox[0], aws_security_group.fetch_message_chunk[0], aws_security_group.send_message_chunk[0]] :
      group.name => group.vpc_id
      } == {
      demo-mesh-poll-mailbox        = "vpc-1"
      demo-mesh-fetch-message-chunk = "vpc-1"
      demo-mesh-send-message-chunk  = "vpc-1"
    }
    error_message = "names of the security groups"
  }

  assert {
    condition = alltrue([
      for function in [
        aws_lambda_function.poll_mailbox, aws_lambda_function.fetch_message_chunk, aws_lambda_function.acknowledge_message,
        aws_lambda_function.send_message_chunk, aws_lambda_function.track_message,
      ] : function.vpc_config[0].subnet_ids == toset(["subnet-1", "subnet-2"])
    ])
    error_message = "every function runs in the subnets"
  }

  assert {
    condition = alltrue([
      for group in [aws_security_group.poll_mailbox[0], aws_security_group.fetch_message_chunk[0], aws_security_group.send_message_chunk[0]] :
      alltrue([for rule in group.egress : rule.from_port == 443 && rule.to_port == 443 && rule.protocol == "tcp"]) &&
      sort(compact(flatten([for rule in group.egress : rule.cidr_blocks == null ? [] : rule.cidr_blocks]))) == sort([
        "18.132.56.40/32", "3.11.193.200/32", "35.176.248.137/32", "3.10.194.216/32", "35.176.231.190/32", "35.179.50.16/32",
      ])
    ])
    error_message = "MESH's addresses, port 443 alone"
  }

  assert {
    condition = sort(flatten([
      for rule in aws_security_group.poll_mailbox[0].egress : [rule.security_groups == null ? [] : tolist(rule.security_groups), rule.prefix_list_ids == null ? [] : rule.prefix_list_ids]
    ])) == sort(["sg-ssm", "pl-dynamodb"])
    error_message = "polling needs no S3 and no Step Functions"
  }

  assert {
    condition = sort(flatten([
      for rule in aws_security_group.fetch_message_chunk[0].egress : [rule.security_groups == null ? [] : tolist(rule.security_groups), rule.prefix_list_ids == null ? [] : rule.prefix_list_ids]
    ])) == sort(["sg-ssm", "pl-s3", "pl-dynamodb"])
    error_message = "what storing needs"
  }

  assert {
    condition = sort(flatten([
      for rule in aws_security_group.send_message_chunk[0].egress : [rule.security_groups == null ? [] : tolist(rule.security_groups), rule.prefix_list_ids == null ? [] : rule.prefix_list_ids]
    ])) == sort(["sg-ssm", "sg-sfn", "pl-s3", "pl-dynamodb"])
    error_message = "what sending and following up need"
  }

  assert {
    condition     = data.aws_ec2_managed_prefix_list.dynamodb[0].name == "com.amazonaws.eu-west-2.dynamodb"
    error_message = "the region's prefix list"
  }

  assert {
    condition = alltrue([
      for name, document in data.aws_iam_policy_document.function : alltrue([
        for statement in document.statement : !contains(statement.resources, "*")
        if contains(["WriteLog", "ReadParameters"], statement.sid)
      ])
    ])
    error_message = "only what knows no narrower resource names all"
  }

  # Lambda looks at these before it makes the function, and takes no ARNs then.
  assert {
    condition = alltrue([
      for name, document in data.aws_iam_policy_document.function :
      jsonencode(one([for statement in document.statement : [sort(statement.actions), statement.resources] if statement.sid == "ManageNetworkInterfaces"])) == jsonencode([[
        "ec2:AssignPrivateIpAddresses",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
      ], ["*"]])
    ])
    error_message = "what Lambda needs to manage network interfaces"
  }

  assert {
    condition = alltrue([
      for name, document in data.aws_iam_policy_document.function :
      one([for statement in document.statement : one(one(statement.condition).values) if statement.sid == "NoNetworkForTheCode" && statement.effect == "Deny"]) ==
      "arn:aws:lambda:eu-west-2:123456789012:function:${local.function_name[name]}"
    ])
    error_message = "the code itself makes no network interface"
  }
}

run "the_endpoints_that_are_given_may_be_reached" {
  command = plan

  variables {
    aws_logs_endpoints_sg_id    = "sg-logs"
    aws_kms_endpoints_sg_id     = "sg-kms"
    aws_lambda_endpoints_sg_id  = "sg-lambda"
    aws_secrets_endpoints_sg_id = "sg-secrets"
    use_secrets_manager         = true
  }

  assert {
    condition = alltrue([
      for group in [aws_security_group.poll_mailbox[0], aws_security_group.fetch_message_chunk[0], aws_security_group.send_message_chunk[0]] :
      length(setsubtract(["sg-ssm", "sg-logs", "sg-kms", "sg-lambda", "sg-secrets"], flatten([for rule in group.egress : rule.security_groups == null ? [] : tolist(rule.security_groups)]))) == 0
    ])
    error_message = "each endpoint that is given"
  }
}

run "addresses_of_the_integration_environment" {
  command = plan

  variables {
    mesh_env = "integration"
  }

  assert {
    condition = sort(one([for rule in aws_security_group.poll_mailbox[0].egress : rule.cidr_blocks if rule.cidr_blocks != null])) == sort([
      "3.11.177.31/32", "35.177.15.89/32", "3.11.199.83/32", "35.178.64.126/32", "18.132.113.121/32", "18.132.31.159/32",
    ])
    error_message = "that environment's, and no other's"
  }
}

run "other_addresses_and_ports_of_mesh" {
  command = plan

  variables {
    mesh_env         = "local"
    mesh_url         = "https://sandbox.example.org:8700"
    mesh_cidr_blocks = ["192.0.2.0/24"]
  }

  assert {
    condition     = one([for rule in aws_security_group.poll_mailbox[0].egress : "${rule.cidr_blocks[0]}:${rule.to_port}" if rule.cidr_blocks != null]) == "192.0.2.0/24:8700"
    error_message = "where this MESH is"
  }
}

run "missing_endpoints_are_named" {
  command = plan

  variables {
    aws_s3_endpoint_prefix_list_id = ""
    aws_ssm_endpoint_sg_id         = ""
    aws_sfn_endpoint_sg_id         = ""
    use_secrets_manager            = true
    mesh_env                       = "local"
    mesh_url                       = "https://sandbox.example.org"
  }

  expect_failures = [
    var.aws_s3_endpoint_prefix_list_id,
    var.aws_ssm_endpoint_sg_id,
    var.aws_sfn_endpoint_sg_id,
    var.aws_secrets_endpoints_sg_id,
    var.mesh_cidr_blocks,
  ]
}

run "a_vpc_without_subnets_is_refused" {
  command = plan

  variables {
    subnet_ids = []
  }

  expect_failures = [var.vpc_id]
}

run "subnets_without_a_vpc_are_refused" {
  command = plan

  variables {
    vpc_id = ""
  }

  expect_failures = [var.vpc_id]
}

run "addresses_that_are_none_are_refused" {
  command = plan

  variables {
    mesh_cidr_blocks = ["msg.intspineservices.nhs.uk"]
  }

  expect_failures = [var.mesh_cidr_blocks]
}

run "no_address_at_all_is_refused" {
  command = plan

  variables {
    mesh_cidr_blocks = []
  }

  expect_failures = [var.mesh_cidr_blocks]
}
