//! The operator's program. Today it prints the resource that it will serve:
//!
//! ```text
//! operator crd | kubectl apply -f -
//! ```

use clap::{Parser, Subcommand};
use std::io::{self, Write};

/// The custom resource definition, as it is committed.
const CRD: &str = include_str!("../../crds/gatewayconfig.yaml");

/// Turns GatewayConfig resources into injected sidecars and live configuration.
#[derive(Parser)]
#[command(name = "operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the custom resource definition, for `kubectl apply -f -` or a GitOps repository.
    Crd,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Crd => Ok(io::stdout().write_all(CRD.as_bytes())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_definition_is_the_one_of_the_types() {
        assert!(CRD == crds::schema::yaml().expect("a schema is YAML"));
    }
}
