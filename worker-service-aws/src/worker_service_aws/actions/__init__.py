"""The actions that this worker can execute: `catalogue` lists them, `change` drives them."""
