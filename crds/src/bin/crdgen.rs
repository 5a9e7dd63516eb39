//! Prints what is generated from the types, or writes it to where it is committed.
//!
//! ```text
//! cargo crdgen             # the custom resource definition
//! cargo crdgen --chart     # the same as the chart's template
//! cargo crdgen --table     # the README's table of settings
//! cargo crdgen write       # everything, to its place
//! ```

use crds::{schema, table};
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::{env, fs, io};

const BEGIN: &str = "<!-- settings:begin -->\n";
const END: &str = "<!-- settings:end -->";

fn main() -> Result<(), Box<dyn Error>> {
    let text = match env::args().nth(1).as_deref() {
        None => schema::yaml()?,
        Some("--chart") => schema::chart_template()?,
        Some("--table") => table::markdown(),
        Some("write") => return write(),
        Some(other) => return Err(format!("{other}: unknown; there are --chart, --table and write").into()),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Brings every generated file of the repository up to date.
fn write() -> Result<(), Box<dyn Error>> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::write(top.join("crds/gatewayconfig.yaml"), schema::yaml()?)?;
    fs::write(top.join("crds/shape.json"), schema::shape()?)?;
    fs::write(top.join("charts/postern/templates/crd.yaml"), schema::chart_template()?)?;
    let readme = fs::read_to_string(top.join("README.md"))?;
    let (before, rest) = readme.split_once(BEGIN).ok_or("README.md does not mark where settings begin")?;
    let (_, after) = rest.split_once(END).ok_or("README.md does not mark where settings end")?;
    let table = table::markdown();
    fs::write(top.join("README.md"), format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}
