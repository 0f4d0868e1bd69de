"""gRPC calls while pods end: `make rollout-grpc`."""
