# Who comes from NHS England's module changes `source`.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

run "the_example_of_its_readme_plans" {
  command = plan

  module {
    source = "./tests/nhs-readme"
  }

  variables {
    env = "live"
  }

  assert {
    condition     = output.mesh.mesh_s3_bucket_name == "live-example-project-mesh"
    error_message = "names are as they were"
  }
}
