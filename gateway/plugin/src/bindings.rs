//! Between the trait that a plugin implements and the interface that the gateway calls, `wit/plugin.wit`.
//!
//! The interface is made of functions that WebAssembly exports and imports, which Rust calls unsafe. This is the only
//! place with any of that, and all of it runs in the sandbox.

#![allow(unsafe_code, reason = "exports have names that the linker sees")]
#![allow(clippy::pedantic, missing_docs, reason = "most of it is generated, with the words of the interface")]

wit_bindgen::generate!({ path: "wit", world: "plugin" });

#[cfg(target_arch = "wasm32")]
mod exports_of_the_plugin {
    use super::exports::postern::plugin::hooks::Guest;
    use super::postern::plugin::types;
    use crate::plugin::with;
    use crate::{
        Cell, Chunk, Column, ErrorResponse, Interests, Introduction, Row, Session, StartupVerdict, StatementVerdict,
        Verdict,
    };

    struct Exports;

    super::export!(Exports with_types_in super);

    unsafe extern "C" {
        /// The plugin's own, which calls [`run`](crate::run).
        fn main(count: i32, arguments: *const *const u8) -> i32;
    }

    impl Chunk for &types::Chunk {
        fn length(&self) -> u32 {
            types::Chunk::length(self)
        }

        fn read(&self, offset: u32, length: u32) -> Vec<u8> {
            types::Chunk::read(self, offset, length)
        }
    }

    impl Row for &types::Row {
        fn value(&self, column: u32) -> Option<Vec<u8>> {
            types::Row::value(self, column)
        }
    }

    impl Guest for Exports {
        fn configure(config: String) -> Result<Interests, String> {
            // An instance is configured once, before anything else, and its `main` does nothing but make the plugin.
            unsafe { main(0, std::ptr::null()) };
            with(|plugin| plugin.configure(&config)).unwrap_or_else(|| Err("the plugin's main does not run it".into()))
        }

        fn on_opening(session: Session) {
            with(|plugin| plugin.on_opening(&session));
        }

        fn on_opened() {
            with(|plugin| plugin.on_opened());
        }

        fn on_traffic() {
            with(|plugin| plugin.on_traffic());
        }

        fn on_closing() {
            with(|plugin| plugin.on_closing());
        }

        fn on_closed() {
            with(|plugin| plugin.on_closed());
        }

        fn from_client(chunk: &types::Chunk) -> Verdict {
            with(|plugin| plugin.from_client(&chunk)).unwrap_or(Verdict::Pass)
        }

        fn to_server(chunk: &types::Chunk) {
            with(|plugin| plugin.to_server(&chunk));
        }

        fn from_server(chunk: &types::Chunk) -> Verdict {
            with(|plugin| plugin.from_server(&chunk)).unwrap_or(Verdict::Pass)
        }

        fn to_client(chunk: &types::Chunk) {
            with(|plugin| plugin.to_client(&chunk));
        }

        fn startup(introduction: Introduction) -> StartupVerdict {
            with(|plugin| plugin.startup(&introduction)).unwrap_or(StartupVerdict::Pass)
        }

        fn query(text: &types::Chunk) -> StatementVerdict {
            with(|plugin| plugin.query(&text)).unwrap_or(StatementVerdict::Pass)
        }

        fn parse(name: String, text: &types::Chunk) -> StatementVerdict {
            with(|plugin| plugin.parse(&name, &text)).unwrap_or(StatementVerdict::Pass)
        }

        fn error(error: ErrorResponse) -> Option<ErrorResponse> {
            with(|plugin| plugin.error(&error)).flatten()
        }

        fn on_columns(columns: Vec<Column>) -> Vec<u32> {
            with(|plugin| plugin.on_columns(&columns)).unwrap_or_default()
        }

        fn on_row(row: &types::Row) -> Vec<Cell> {
            with(|plugin| plugin.on_row(&row)).unwrap_or_default()
        }
    }
}
