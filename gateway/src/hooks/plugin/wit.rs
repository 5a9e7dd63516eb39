//! What `plugin/wit/plugin.wit` says, in Rust: made by wasmtime.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "nobody has written this")]

wasmtime::component::bindgen!({
    path: "plugin/wit",
    world: "plugin",
    with: {
        "postern:plugin/types.chunk": super::offer::Chunk,
        "postern:plugin/types.row": super::offer::Row,
    },
    imports: { default: trappable },
});
