//! An image as one file: an OCI layout in a tar, which also tells Docker what it wants to know. The same content gives the
//! same bytes, always.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Image, USER};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What an image is made of.
pub(super) struct Recipe {
    name: String,
    entrypoint: Vec<String>,
    environment: Vec<String>,
    labels: BTreeMap<String, String>,
    platforms: Vec<(&'static str, Layer)>,
}

/// The files of an image, by their absolute paths.
#[derive(Default)]
pub(super) struct Layer(BTreeMap<String, Entry>);

enum Entry {
    Folder(u32),
    File(u32, Vec<u8>),
    Link(String),
}

/// Everything that is in the archive by its hash.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

/// The SHA-256 of bytes, as 64 digits.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// === impl Recipe ===

impl Recipe {
    pub(super) fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            environment: Vec::new(),
            labels: BTreeMap::new(),
            platforms: Vec::new(),
        }
    }

    pub(super) fn environment(&mut self, name: &str, value: &str) {
        self.environment.push(format!("{name}={value}"));
    }

    pub(super) fn label(&mut self, name: &str, value: &str) {
        self.labels.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn platform(&mut self, architecture: &'static str, layer: Layer) {
        self.platforms.push((architecture, layer));
    }

    /// Writes the archive, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<Image> {
        let mut blobs = Blobs::default();
        let mut manifests = Vec::new();
        let mut for_docker = Vec::new();
        for (architecture, layer) in &self.platforms {
            let layer = layer.tar()?;
            let config = serde_json::to_vec(&self.config(architecture, &digest(&layer)))?;
            let (layer, config) = (blobs.add(LAYER, layer), blobs.add(CONFIG, config));
            for_docker.push(json!({"Config": path_of(&config), "Layers": [path_of(&layer)], "RepoTags": [self.name]}));
            let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
            let mut manifest = blobs.add(MANIFEST, serde_json::to_vec(&manifest)?);
            manifest["platform"] = json!({"os": "linux", "architecture": architecture});
            manifests.push(manifest);
        }
        // Docker's own list knows one architecture only.
        for_docker.truncate(1);
        let mut root = match manifests.as_slice() {
            [only] => only.clone(),
            several => {
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": several});
                blobs.add(INDEX, serde_json::to_vec(&index)?)
            }
        };
        let digest = root["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:").to_owned();
        let version = self.name.rsplit(':').next().unwrap_or_default();
        root["annotations"] =
            json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": version});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [root]});
        store(path, &blobs.tar(&index, &for_docker)?)?;
        let platforms = self.platforms.iter().map(|(architecture, _)| *architecture).collect();
        Ok(Image { name: self.name.clone(), archive: path.to_owned(), digest, platforms })
    }

    fn config(&self, architecture: &str, layer: &str) -> Value {
        json!({
            "os": "linux",
            "architecture": architecture,
            "config": {
                "User": format!("{USER}:{USER}"),
                "Entrypoint": self.entrypoint,
                "Env": self.environment,
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

fn path_of(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
}

/// Who reads the file meanwhile sees the old one or the new one.
pub(super) fn store(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("an archive lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&new, bytes).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

// === impl Layer ===

impl Layer {
    /// Puts a file of this machine into it.
    pub(super) fn file(&mut self, path: &str, from: &Path, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.insert(path, Entry::File(mode, content));
        Ok(())
    }

    /// The same where it is on this machine, with the mode that it has.
    pub(super) fn same_file(&mut self, path: &Path) -> Result<()> {
        let mode = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
        self.file(&path.to_string_lossy(), path, mode & 0o755)
    }

    pub(super) fn text(&mut self, path: &str, text: &str, mode: u32) {
        self.insert(path, Entry::File(mode, text.as_bytes().to_vec()));
    }

    pub(super) fn folder(&mut self, path: &str, mode: u32) {
        self.insert(path, Entry::Folder(mode));
    }

    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.insert(path, Entry::Link(to.to_owned()));
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path.trim_start_matches('/'))
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Entry::Folder(0o755));
        }
        self.0.insert(path.to_owned(), entry);
    }

    fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            match entry {
                Entry::Folder(mode) => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    tar.append_data(&mut header, format!("{path}/"), &[][..])?;
                }
                Entry::File(mode, content) => {
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link(to) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path, to)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

// === impl Blobs ===

impl Blobs {
    /// Adds one, and says how others refer to it.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let hash = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len()});
        self.0.insert(hash, bytes);
        descriptor
    }

    fn tar(&self, index: &Value, for_docker: &[Value]) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let mut files = vec![("oci-layout".to_owned(), layout), ("index.json".to_owned(), serde_json::to_vec(index)?)];
        files.push(("manifest.json".to_owned(), serde_json::to_vec(for_docker)?));
        files.extend(self.0.iter().map(|(hash, bytes)| (format!("blobs/sha256/{hash}"), bytes.clone())));
        for (path, bytes) in files {
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        Ok(tar.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Folder;

    fn recipe() -> Recipe {
        let mut layer = Layer::default();
        layer.text("/etc/greeting", "hello", 0o644);
        layer.link("/greeting", "etc/greeting");
        let mut recipe = Recipe::new("localhost/postern/greeter:0.1.0", &["/greet"]);
        recipe.platform("amd64", layer);
        recipe
    }

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.expect("a whole entry");
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("memory can be read");
            (entry.path().expect("a path").display().to_string(), bytes)
        };
        archive.entries().expect("an archive").map(read).collect()
    }

    #[test]
    fn the_same_recipe_gives_the_same_bytes() {
        let folder = Folder::new("image");
        let (one, other) = (folder.join("one.tar"), folder.join("other.tar"));
        let digests = [recipe().write(&one), recipe().write(&other)].map(|image| image.expect("a folder").digest);
        assert_eq!(digests[0], digests[1]);
        assert!(fs::read(one).expect("it was written") == fs::read(other).expect("it was written"));
    }

    #[test]
    fn every_reference_in_an_archive_leads_to_what_has_that_hash() {
        let folder = Folder::new("image");
        recipe().write(&folder.join("image.tar")).expect("our folder is writable");
        let files = entries(&fs::read(folder.join("image.tar")).expect("it was written"));
        let index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
        let root = &index["manifests"][0];
        assert_eq!(root["annotations"]["io.containerd.image.name"], "localhost/postern/greeter:0.1.0");
        let manifest = &files[&path_of(root)];
        assert_eq!(format!("sha256:{}", digest(manifest)), root["digest"]);
        let manifest: Value = serde_json::from_slice(manifest).expect("JSON");
        let layer = &files[&path_of(&manifest["layers"][0])];
        assert_eq!(format!("sha256:{}", digest(layer)), manifest["layers"][0]["digest"]);
        let inside: Vec<_> = entries(layer).into_keys().collect();
        assert_eq!(inside, ["etc/", "etc/greeting", "greeting"]);
        let config: Value = serde_json::from_slice(&files[&path_of(&manifest["config"])]).expect("JSON");
        assert_eq!(config["config"]["User"], "65532:65532");
    }

    #[test]
    fn several_architectures_are_one_image() {
        let folder = Folder::new("image");
        let mut recipe = recipe();
        recipe.platform("arm64", Layer::default());
        recipe.write(&folder.join("image.tar")).expect("our folder is writable");
        let files = entries(&fs::read(folder.join("image.tar")).expect("it was written"));
        let index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
        let inner: Value = serde_json::from_slice(&files[&path_of(&index["manifests"][0])]).expect("JSON");
        let platforms: Vec<_> =
            inner["manifests"].as_array().expect("a list").iter().map(|one| &one["platform"]).collect();
        assert_eq!(platforms[0]["architecture"], "amd64");
        assert_eq!(platforms[1]["architecture"], "arm64");
    }
}
