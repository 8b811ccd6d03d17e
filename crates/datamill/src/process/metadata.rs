//! The dictionary of a [`MetadataJsonReproducer`], and the way from it to a message.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{DataFileStreamReproducer, Lock, MetadataJsonReproducer, ProcessingError, ReproducerMessage};
use crate::assemble::DownloadDataFile;

/// A dictionary of metadata, in the order in which its keys were inserted.
///
/// ```
/// # use datamill::process::Metadata;
/// let mut metadata = Metadata::new();
/// metadata.insert("anode", "Cu");
/// metadata.insert("angles", [10.0, 90.0]);
/// assert_eq!(metadata.to_json().unwrap(), r#"{"anode":"Cu","angles":[10.0,90.0]}"#);
///
/// metadata.insert("intensity", f64::NAN);
/// assert!(metadata.to_json().unwrap_err().to_string().contains("`intensity`"));
/// ```
#[derive(Debug, Default)]
pub struct Metadata {
    entries: Map<String, Value>,
    refused: Option<String>,
}

impl Metadata {
    /// An empty dictionary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key: text, a number, a list, a nested structure, anything that serde can write as JSON.
    /// A value that JSON cannot hold (NaN, infinity, a map whose keys are no text) makes the file
    /// fail with an error that names the key.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Serialize) {
        let key = key.into();
        match to_json(&value) {
            Ok(value) => {
                self.entries.insert(key, value);
            }
            Err(reason) => {
                self.refused.get_or_insert(format!("the metadata key `{key}` holds {reason}"));
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The dictionary as a JSON object.
    ///
    /// # Errors
    /// The first key whose value JSON cannot hold.
    pub fn to_json(&self) -> Result<String, ProcessingError> {
        match &self.refused {
            Some(reason) => Err(ProcessingError::file_failed(reason)),
            None => Ok(serde_json::to_string(&self.entries)?),
        }
    }
}

/// Goes over CBOR's value, which keeps NaN, because `serde_json` would turn NaN into null.
fn to_json(value: &impl Serialize) -> Result<Value, String> {
    let value =
        ciborium::Value::serialized(value).map_err(|e| format!("a value that cannot be written as JSON: {e}"))?;
    checked(value)
}

fn checked(value: ciborium::Value) -> Result<Value, String> {
    use ciborium::Value as Cbor;
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(b) => b.into(),
        Cbor::Integer(i) => {
            let i = i128::from(i);
            let number = i64::try_from(i).map(Into::into).or_else(|_| u64::try_from(i).map(Into::into));
            Value::Number(number.map_err(|_| "a number out of range".to_owned())?)
        }
        Cbor::Float(f) => return number(f),
        Cbor::Text(s) => s.into(),
        Cbor::Bytes(bytes) => bytes.into(),
        Cbor::Array(items) => Value::Array(items.into_iter().map(checked).collect::<Result<_, _>>()?),
        Cbor::Map(pairs) => Value::Object(pairs.into_iter().map(checked_pair).collect::<Result<_, _>>()?),
        _ => return Err("a value that JSON does not know".to_owned()),
    })
}

fn checked_pair((key, value): (ciborium::Value, ciborium::Value)) -> Result<(String, Value), String> {
    let key = match key {
        ciborium::Value::Text(s) => s,
        ciborium::Value::Integer(i) => i128::from(i).to_string(),
        _ => return Err("a map whose keys are neither text nor whole numbers".to_owned()),
    };
    let value = checked(value).map_err(|reason| format!("{reason} (at `{key}`)"))?;
    Ok((key, value))
}

fn number(value: f64) -> Result<Value, String> {
    serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| format!("{value}, which JSON cannot hold"))
}

/// Turns a [`MetadataJsonReproducer`] into a [`DataFileStreamReproducer`].
#[derive(Debug)]
pub struct MetadataJson<T>(pub T);

impl<T: MetadataJsonReproducer> DataFileStreamReproducer for MetadataJson<T> {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        lock: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let metadata = self.0.get_metadata_dict_for_file(file, lock)?;
        Ok(Some(ReproducerMessage::new(metadata.to_json()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_keep_their_order_and_values_their_type() {
        let mut metadata = Metadata::new();
        metadata.insert("z", 1);
        metadata.insert("a", None::<f64>);
        metadata.insert("c", ("x", 2.5, u64::MAX, i64::MIN, true));
        metadata.insert("nested", BTreeMap::from([("k", vec![1, 2])]));
        assert_eq!(
            metadata.to_json().unwrap(),
            r#"{"z":1,"a":null,"c":["x",2.5,18446744073709551615,-9223372036854775808,true],"nested":{"k":[1,2]}}"#
        );
    }

    #[test]
    fn a_number_that_json_cannot_hold_names_its_key_and_where() {
        let mut metadata = Metadata::new();
        metadata.insert("good", 1);
        metadata.insert("peaks", BTreeMap::from([("height", f64::INFINITY)]));
        metadata.insert("later", f64::NAN);
        let error = metadata.to_json().unwrap_err().to_string();
        assert_eq!(error, "the metadata key `peaks` holds inf, which JSON cannot hold (at `height`)");
    }

    #[test]
    fn a_struct_becomes_an_object() {
        #[derive(Serialize)]
        struct Range {
            start: f64,
            end: f64,
        }
        let mut metadata = Metadata::new();
        metadata.insert("range", Range { start: 10.0, end: 90.5 });
        assert_eq!(metadata.get("range"), Some(&serde_json::json!({"start": 10.0, "end": 90.5})));
    }
}
