//! What user code computed.

/// A message that user code computed from a file, on its way to the result topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReproducerMessage {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl ReproducerMessage {
    /// A message with this value. Its key is made from the file's path as OpenMSIStream makes it,
    /// `{subdirectory with "_"}_{filename}_chunk_processing_result`.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { key: None, value: value.into(), headers: Vec::new() }
    }

    /// Sets a key of your own.
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a record header. The program adds its own, named `datamill.…`, which say where the file
    /// came from.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The key, where it has one of its own.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The headers of its own, with their names.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    pub(crate) fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        self.value.len() + self.key.as_ref().map_or(0, Vec::len) + headers
    }
}
