//! The `GatewayConfig` resource: what people write.
