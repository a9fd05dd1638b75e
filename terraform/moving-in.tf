# A state of the NHS's module in a VPC holds the rules of the three security groups as resources of their own. The groups here
# hold their rules themselves, and take those over; destroyed one by one, the old ones would take new ones for the same place
# with them. Needs Terraform 1.7.

removed {
  from = aws_security_group_rule.fetch_message_endpoints
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.fetch_message_mesh
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.fetch_message_s3
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.poll_mailbox_endpoints
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.poll_mailbox_mesh
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.poll_mailbox_s3
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.send_message_endpoints
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.send_message_mesh
  lifecycle {
    destroy = false
  }
}

removed {
  from = aws_security_group_rule.send_message_s3
  lifecycle {
    destroy = false
  }
}
