"""The AWS worker: IAM actions in registered accounts."""
