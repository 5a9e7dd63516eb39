//! Says what is asked.
use postern_plugin::{Chunk, Interests, Plugin, StatementVerdict, host};

struct Hello;

impl Plugin for Hello {
    fn configure(&mut self, _config: &str) -> Result<Interests, String> {
        Ok(Interests::QUERY)
    }

    fn query(&mut self, statement: &dyn Chunk) -> StatementVerdict {
        host::log(host::Level::Info, &format!("somebody asks: {}", statement.text()));
        StatementVerdict::Pass
    }
}

fn main() {
    postern_plugin::run(Hello);
}
