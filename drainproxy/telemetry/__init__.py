"""What OpenTelemetry's collectors get, of processes that were told of one."""
