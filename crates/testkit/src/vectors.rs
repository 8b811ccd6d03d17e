//! The golden vectors: messages made with the serializer of OpenMSIStream, what each of them holds,
//! what the rebuilt files must be, and messages that must be refused. [`load`] reads them from
//! `crates/testkit/vectors`, with `manifest.json` as the table of contents.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// All vectors.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// The files that the valid messages make up.
    pub files: Vec<File>,
    /// The valid messages, in the order of the manifest.
    pub messages: Vec<Message>,
    /// The messages that must be refused.
    pub invalid: Vec<Invalid>,
}

impl Vectors {
    /// The message with this path in the manifest (`one_chunk/001.msgpack`).
    pub fn message(&self, path: &str) -> Option<&Message> {
        self.messages.iter().find(|message| message.file == path)
    }
}

/// One file as its producer saw it and as it must be rebuilt.
#[derive(Debug, Clone, Deserialize)]
pub struct File {
    /// Name of the vector, which is its folder too.
    pub name: String,
    /// Path of the producer's file relative to its root, with `/`.
    pub relative_path: String,
    /// Name of the rebuilt file.
    pub reconstructed_filename: String,
    /// Path of the rebuilt file relative to the output folder, with `/`.
    pub reconstructed_relative_path: String,
    /// Chunk size of the producer in bytes.
    pub chunk_size: u64,
    /// Paths of its messages, in the order of their index.
    pub messages: Vec<String>,
    /// SHA-512 of the rebuilt file, in hexadecimal.
    pub content_sha512: String,
    /// Length of the rebuilt file in bytes.
    pub content_len: u64,
    /// Key of its result message.
    pub result_key: String,
    /// Value of the result message for the metadata `a = 1, b = None, c = ["x", 2.5]`.
    pub result_value_for_example_metadata: String,
}

/// One valid message and what it holds.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// Its path in the manifest.
    pub file: String,
    /// The key of its record.
    pub key: String,
    /// Field 0.
    pub filename: String,
    /// Field 6.
    pub subdir: String,
    /// Field 7.
    pub filename_append: String,
    /// Field 4.
    pub chunk_i: u32,
    /// Field 5.
    pub n_total_chunks: u32,
    /// Field 3, in bytes.
    pub chunk_offset_write: u64,
    /// Field 2, in hexadecimal.
    pub chunk_hash_sha512: String,
    /// Field 1, in hexadecimal.
    pub file_hash_sha512: String,
    /// Length of field 8 in bytes.
    pub data_len: u64,
    /// Field 9 in seconds since the epoch; `None` where it is 0.0, which stands for unknown. (All
    /// vectors have ten fields.)
    pub file_mtime: Option<f64>,
    /// The message itself.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// One message that must be refused.
#[derive(Debug, Clone, Deserialize)]
pub struct Invalid {
    /// Its path in the manifest.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
    /// What OpenMSIStream does with it: `accepted` or `rejected`.
    pub openmsistream: String,
    /// The message itself.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Manifest {
    files: Vec<File>,
    messages: Vec<Message>,
    invalid: Vec<Invalid>,
}

/// The folder of the vectors.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Reads all vectors. Fails where a file of the manifest is missing or the manifest is not understood.
pub fn load() -> Result<Vectors> {
    let folder = folder();
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("cannot read the vector `{}`", path.display()))
    };
    let mut manifest: Manifest =
        serde_json::from_slice(&read("manifest.json")?).context("cannot understand `manifest.json` of the vectors")?;
    for message in &mut manifest.messages {
        message.bytes = read(&message.file)?;
    }
    for invalid in &mut manifest.invalid {
        invalid.bytes = read(&invalid.file)?;
    }
    Ok(Vectors { files: manifest.files, messages: manifest.messages, invalid: manifest.invalid })
}
