//! A plugin that a test writes: what its functions do, in the text form of WebAssembly, and the component around them.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface of plugins.
const WIT: &str = include_str!("../../gateway/plugin/wit/plugin.wit");
/// What comes before the functions: what they can call, and memory for what is given to them.
const BEGIN: &str = r#"(module
  (import "postern:plugin/types@0.1.0" "[method]chunk.length" (func $length (param i32) (result i32)))
  (import "postern:plugin/types@0.1.0" "[method]chunk.read" (func $read (param i32 i32 i32 i32)))
  (import "postern:plugin/types@0.1.0" "[resource-drop]chunk" (func $drop (param i32)))
  (import "postern:plugin/types@0.1.0" "[method]row.value" (func $value (param i32 i32 i32)))
  (import "postern:plugin/types@0.1.0" "[resource-drop]row" (func $drop-row (param i32)))
  (import "postern:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "postern:plugin/host@0.1.0" "counter" (func $counter (param i32 i32 i64)))
  (import "postern:plugin/host@0.1.0" "histogram" (func $histogram (param i32 i32 f64)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
  (func $answer (param i32 i32 i32) (result i32)
    (i32.store8 (i32.const 32) (local.get 0))
    (i32.store (i32.const 36) (local.get 1))
    (i32.store (i32.const 40) (local.get 2))
    (global.set $free (i32.const 65536))
    (i32.const 32))
"#;
/// Every function, its parameters, and what it does where a test says nothing else.
const FUNCTIONS: [(&str, &str, &str); 16] = [
    ("configure", "(param i32 i32) (result i32)", ""),
    ("on-opening", "(param i64 i32 i32 i32 i32 i32)", ""),
    ("on-opened", "", ""),
    ("on-traffic", "", ""),
    ("on-closing", "", ""),
    ("on-closed", "", ""),
    ("from-client", "(param $chunk i32) (result i32)", PASS),
    ("to-server", "(param $chunk i32)", SEEN),
    ("from-server", "(param $chunk i32) (result i32)", PASS),
    ("to-client", "(param $chunk i32)", SEEN),
    (
        "startup",
        "(param i32 i32 i32 i32 i32 i32) (result i32)",
        "(call $answer (i32.const 0) (i32.const 0) (i32.const 0))",
    ),
    ("query", "(param $chunk i32) (result i32)", PASS),
    ("parse", "(param i32 i32) (param $chunk i32) (result i32)", PASS),
    (
        "error",
        "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)",
        "(call $answer (i32.const 0) (i32.const 0) (i32.const 0))",
    ),
    (
        "on-columns",
        "(param i32 i32) (result i32)",
        "(i32.store (i32.const 32) (i32.const 0)) (i32.store (i32.const 36) (i32.const 0)) (i32.const 32)",
    ),
    (
        "on-row",
        "(param $row i32) (result i32)",
        "(call $drop-row (local.get $row)) (i32.store (i32.const 32) (i32.const 0)) (i32.store (i32.const 36) (i32.const 0)) (i32.const 32)",
    ),
];
/// Lets what it is asked about pass.
const PASS: &str = "(call $drop (local.get $chunk)) (call $answer (i32.const 0) (i32.const 0) (i32.const 0))";
/// Takes note of it.
const SEEN: &str = "(call $drop (local.get $chunk))";
/// The hooks, as a plugin asks for them, in the order of their bits.
const INTERESTS: [&str; 14] = [
    "on-opening",
    "on-opened",
    "on-traffic",
    "on-closing",
    "on-closed",
    "from-client",
    "to-server",
    "from-server",
    "to-client",
    "startup",
    "query",
    "parse",
    "error",
    "rows",
];

/// A plugin that does nothing, but for what a test has it do.
#[derive(Clone, Debug, Default)]
pub struct Plugin {
    interests: u16,
    bodies: Vec<(String, String)>,
    more: String,
}

// === impl Plugin ===

impl Plugin {
    /// One that wants to be called for every hook.
    #[must_use]
    pub fn of_all_hooks() -> Plugin {
        Plugin { interests: 0x3fff, ..Plugin::default() }
    }

    /// It wants to be called for this hook.
    ///
    /// # Panics
    /// There is no such hook.
    #[must_use]
    pub fn wants(mut self, hook: &str) -> Plugin {
        let bit = INTERESTS.iter().position(|known| *known == hook).expect("there is such a hook");
        self.interests |= 1 << bit;
        self
    }

    /// What this function does: instructions in the text form. `$chunk` is what it is asked about; `$answer` takes the
    /// number of a verdict and the place and length of bytes, and is what it returns.
    #[must_use]
    pub fn does(mut self, function: &str, instructions: &str) -> Plugin {
        self.bodies.push((function.to_owned(), instructions.to_owned()));
        self
    }

    /// What the module has besides: data, other functions.
    #[must_use]
    pub fn has(mut self, more: &str) -> Plugin {
        self.more.push_str(more);
        self
    }

    /// It answers what it is asked by this hook with verdict number `verdict` and these bytes: 0 passes, 1 replaces,
    /// 2 replies or refuses, 3 closes.
    #[must_use]
    pub fn answers(self, hook: &str, verdict: u8, bytes: &[u8]) -> Plugin {
        let data: Vec<_> = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let data = data.concat();
        let length = bytes.len();
        self.has(&format!("(data (i32.const 1024) \"{data}\")")).does(
            hook,
            &format!(
                "(call $drop (local.get $chunk)) (call $answer (i32.const {verdict}) (i32.const 1024) (i32.const {length}))"
            ),
        )
    }

    /// The component.
    ///
    /// # Panics
    /// What the test has written makes no sense.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
        let mut text = BEGIN.to_owned();
        for (name, signature, usual) in FUNCTIONS {
            let written = self.bodies.iter().rfind(|(function, _)| function == name);
            let configured = format!(
                "(i32.store8 (i32.const 32) (i32.const 0)) (i32.store16 (i32.const 36) (i32.const {})) (i32.const 32)",
                self.interests
            );
            let usual = if name == "configure" { &*configured } else { usual };
            let body = written.map_or(usual, |(_, body)| body);
            let function = format!("  (func (export \"postern:plugin/hooks@0.1.0#{name}\") {signature} {body})\n");
            text.push_str(&function);
        }
        text.push_str(&self.more);
        text.push(')');
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", WIT).unwrap_or_else(|error| panic!("{error:#}"));
        let world = resolve.select_world(&[package], None).unwrap_or_else(|error| panic!("{error:#}"));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .unwrap_or_else(|error| panic!("{error:#}"));
        let encoder = ComponentEncoder::default().module(&module).unwrap_or_else(|error| panic!("{error:#}"));
        encoder.validate(true).encode().unwrap_or_else(|error| panic!("{error:#}"))
    }
}
