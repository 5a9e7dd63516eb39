//! The cast's image of applications, migrations and databases, made from the programs of this machine and the libraries
//! that they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::archive::{Layer, Recipe};
use super::{Image, REGISTRY, USER, host_architecture};
use crate::install::find;
use crate::workspace::target;

/// PostgreSQL's programs that pods may want, beside its server.
const PROGRAMS: [&str; 5] = ["psql", "pgbench", "pg_isready", "initdb", "postgres"];

/// Brings up a PostgreSQL that lets everybody in, and ends it fast when the pod ends.
const SERVE: &str = r#"#!/bin/sh
# serve-postgres [SETTING=VALUE...]: a new database in $PGDATA, or the one that is there.
set -e
export PGDATA="${PGDATA:-/tmp/data}"
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  initdb --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C -D "$PGDATA" >/dev/null
  echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
fi
rm -f "$PGDATA/postmaster.pid"
settings=
for setting in "$@"; do settings="$settings -c $setting"; done
postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off $settings &
server=$!
trap 'kill -INT $server' TERM INT
while kill -0 $server 2>/dev/null; do wait $server && exit 0 || code=$?; done
exit $code
"#;

pub(super) fn image() -> Result<Image> {
    let mut layer = Layer::default();
    layer.folder("/tmp", 0o1777);
    layer.text("/etc/passwd", &format!("root:x:0:0::/tmp:/bin/sh\napp:x:{USER}:{USER}::/tmp:/bin/sh\n"), 0o644);
    layer.text("/etc/group", &format!("root:x:0:\napp:x:{USER}:\n"), 0o644);
    layer.text("/etc/nsswitch.conf", "hosts: files dns\n", 0o644);
    layer.text("/bin/serve-postgres", SERVE, 0o755);
    add_busybox(&mut layer)?;
    add_postgres(&mut layer)?;
    let mut recipe = Recipe::new(&format!("{REGISTRY}/toolbox:1"), &["/bin/sh"]);
    recipe.environment("PATH", "/bin");
    recipe.environment("HOME", "/tmp");
    recipe.platform(host_architecture(), layer);
    recipe.write(&target().join("cluster").join("toolbox.tar"))
}

/// All of its applets by their names.
fn add_busybox(layer: &mut Layer) -> Result<()> {
    let busybox = found("busybox")?;
    layer.file("/bin/busybox", &busybox, 0o755)?;
    add_libraries(layer, &busybox)?;
    for applet in output(Command::new(busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("/bin/{applet}"), "busybox");
    }
    Ok(())
}

/// The programs where they are on this machine, because the server finds its files by the way from there.
fn add_postgres(layer: &mut Layer) -> Result<()> {
    for program in PROGRAMS {
        let path = found(program)?;
        layer.same_file(&path)?;
        layer.link(&format!("/bin/{program}"), &path.to_string_lossy());
        add_libraries(layer, &path)?;
    }
    let config = found("pg_config")?;
    let folder = |option| output(Command::new(&config).arg(option)).map(|path| PathBuf::from(path.trim()));
    let is_needed = |path: &Path| {
        // Compiling queries takes a library larger than everything else together, and is done without where it is missing.
        !path.to_string_lossy().contains("llvm") && !path.ends_with("bitcode")
    };
    for path in files_below(&folder("--pkglibdir")?)? {
        if is_needed(&path) && path.extension().is_some_and(|extension| extension == "so") {
            layer.same_file(&path)?;
            add_libraries(layer, &path)?;
        }
    }
    for path in files_below(&folder("--sharedir")?)? {
        if !path.to_string_lossy().contains("/man/") {
            layer.same_file(&path)?;
        }
    }
    Ok(())
}

/// The libraries that a program needs, as the loader finds them.
fn add_libraries(layer: &mut Layer, program: &Path) -> Result<()> {
    // A static program has none, and `ldd` fails on it.
    let listing = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    for word in String::from_utf8_lossy(&listing.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let library = Path::new(word);
        if !layer.has(word) && library.is_file() {
            layer.same_file(library)?;
        }
    }
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

fn found(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not installed; `cargo verify -- tools` installs it"))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
