//! From a core module to a component: the same code, with the interface that the gateway looks for, and no other.

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface.
const WIT: &str = include_str!("../../wit/plugin.wit");
/// What of it a plugin is.
const WORLD: &str = "plugin";

/// The component of `module`, which imports nothing but what the gateway offers.
pub(crate) fn of(module: &[u8]) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", WIT).context("the interface cannot be read")?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .context("it is no WebAssembly module")?;
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    component.context(
        "its exports have to be those of postern:plugin/hooks, and it may import nothing but postern:plugin/host",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(module: &str) -> String {
        let module = wat::parse_str(module).expect("it is a module");
        format!("{:#}", of(&module).expect_err("it is refused"))
    }

    #[test]
    fn what_wants_a_file_system_is_refused_and_named() {
        let said = refused(
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32))))",
        );
        assert!(said.contains("wasi_snapshot_preview1"), "{said}");
    }

    #[test]
    fn what_has_no_hooks_is_refused() {
        let said = refused("(module (memory (export \"memory\") 1))");
        assert!(said.contains("postern:plugin/hooks"), "{said}");
        assert!(of(b"no module").is_err());
    }
}
