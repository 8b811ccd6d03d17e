//! A reader of MessagePack that borrows and a writer, both for the few types that a chunk is made of.
//! Lengths are compared with the bytes that are there before anything is done with them.

use std::convert::Infallible;

use rmp::Marker;
use rmp::encode::{self, ByteBuf, ValueWriteError};

use crate::error::ChunkError;

/// What is left of a message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The length of the array that the message is.
    pub(crate) fn array(&mut self) -> Result<u32, ChunkError> {
        const FIELD: &str = "length of the array";
        match self.marker(FIELD)? {
            Marker::FixArray(length) => Ok(u32::from(length)),
            Marker::Array16 => Ok(u16::from_be_bytes(self.bytes(FIELD)?).into()),
            Marker::Array32 => Ok(u32::from_be_bytes(self.bytes(FIELD)?)),
            other => Err(ChunkError::NotAnArray { found: describe(other) }),
        }
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, ChunkError> {
        let length = match self.marker(field)? {
            Marker::FixStr(length) => u32::from(length),
            Marker::Str8 => u8::from_be_bytes(self.bytes(field)?).into(),
            Marker::Str16 => u16::from_be_bytes(self.bytes(field)?).into(),
            Marker::Str32 => u32::from_be_bytes(self.bytes(field)?),
            other => return Err(wrong_type(field, "a string", other)),
        };
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes).map_err(|source| ChunkError::NotUtf8 { field, source })
    }

    pub(crate) fn binary(&mut self, field: &'static str) -> Result<&'a [u8], ChunkError> {
        let length = match self.marker(field)? {
            Marker::Bin8 => u8::from_be_bytes(self.bytes(field)?).into(),
            Marker::Bin16 => u16::from_be_bytes(self.bytes(field)?).into(),
            Marker::Bin32 => u32::from_be_bytes(self.bytes(field)?),
            other => return Err(wrong_type(field, "binary data", other)),
        };
        self.take(length, field)
    }

    pub(crate) fn hash(&mut self, field: &'static str) -> Result<&'a [u8; 64], ChunkError> {
        let bytes = self.binary(field)?;
        bytes.try_into().map_err(|_| ChunkError::HashLength { field, length: bytes.len() })
    }

    /// An integer of any width that is not negative.
    pub(crate) fn count(&mut self, field: &'static str) -> Result<u64, ChunkError> {
        let marker = self.marker(field)?;
        match self.integer(marker, field)? {
            Some(Integer::Natural(value)) => Ok(value),
            Some(Integer::Negative(value)) => Err(ChunkError::Negative { field, value }),
            None => Err(wrong_type(field, "an integer", marker)),
        }
    }

    /// A float or an integer of any width.
    pub(crate) fn number(&mut self, field: &'static str) -> Result<f64, ChunkError> {
        let marker = self.marker(field)?;
        match marker {
            Marker::F32 => return Ok(f32::from_be_bytes(self.bytes(field)?).into()),
            Marker::F64 => return Ok(f64::from_be_bytes(self.bytes(field)?)),
            _ => {}
        }
        match self.integer(marker, field)? {
            Some(Integer::Natural(value)) => Ok(value as f64),
            Some(Integer::Negative(value)) => Ok(value as f64),
            None => Err(wrong_type(field, "a number", marker)),
        }
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<(), ChunkError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(ChunkError::TrailingBytes { count }),
        }
    }

    fn integer(&mut self, marker: Marker, field: &'static str) -> Result<Option<Integer>, ChunkError> {
        let value = match marker {
            Marker::FixPos(value) => i64::from(value),
            Marker::FixNeg(value) => i64::from(value),
            Marker::U8 => u8::from_be_bytes(self.bytes(field)?).into(),
            Marker::U16 => u16::from_be_bytes(self.bytes(field)?).into(),
            Marker::U32 => u32::from_be_bytes(self.bytes(field)?).into(),
            Marker::U64 => {
                return Ok(Some(Integer::Natural(u64::from_be_bytes(self.bytes(field)?))));
            }
            Marker::I8 => i8::from_be_bytes(self.bytes(field)?).into(),
            Marker::I16 => i16::from_be_bytes(self.bytes(field)?).into(),
            Marker::I32 => i32::from_be_bytes(self.bytes(field)?).into(),
            Marker::I64 => i64::from_be_bytes(self.bytes(field)?),
            _ => return Ok(None),
        };
        Ok(Some(match u64::try_from(value) {
            Ok(natural) => Integer::Natural(natural),
            Err(_) => Integer::Negative(value),
        }))
    }

    fn marker(&mut self, field: &'static str) -> Result<Marker, ChunkError> {
        let [byte] = self.bytes(field)?;
        Ok(Marker::from_u8(byte))
    }

    fn bytes<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ChunkError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(ChunkError::Truncated { field })?;
        self.rest = tail;
        Ok(*head)
    }

    fn take(&mut self, length: u32, field: &'static str) -> Result<&'a [u8], ChunkError> {
        let truncated = ChunkError::Truncated { field };
        let length = usize::try_from(length).map_err(|_| truncated.clone())?;
        let (head, tail) = self.rest.split_at_checked(length).ok_or(truncated)?;
        self.rest = tail;
        Ok(head)
    }
}

enum Integer {
    Natural(u64),
    Negative(i64),
}

fn wrong_type(field: &'static str, expected: &'static str, found: Marker) -> ChunkError {
    ChunkError::WrongType { field, expected, found: describe(found) }
}

fn describe(marker: Marker) -> &'static str {
    match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) => "an integer",
        Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => "an integer",
        Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => "an integer",
        Marker::F32 | Marker::F64 => "a float",
        Marker::Null => "nil",
        Marker::True | Marker::False => "a boolean",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "a string",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "binary data",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "an array",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "a map",
        Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 => "an extension",
        Marker::FixExt8 | Marker::FixExt16 => "an extension",
        Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => "an extension",
        Marker::Reserved => "the byte `0xc1`, which MessagePack never uses",
    }
}

/// Appends to a vector. Every value takes its shortest form, as Python's `msgpack` writes it.
pub(crate) struct Writer {
    bytes: ByteBuf,
}

impl Writer {
    pub(crate) fn append_to(bytes: Vec<u8>) -> Self {
        Self { bytes: ByteBuf::from_vec(bytes) }
    }

    pub(crate) fn array(&mut self, length: u32) {
        written(encode::write_array_len(&mut self.bytes, length));
    }

    pub(crate) fn text(&mut self, value: &str) {
        written(encode::write_str(&mut self.bytes, value));
    }

    pub(crate) fn binary(&mut self, value: &[u8]) {
        written(encode::write_bin(&mut self.bytes, value));
    }

    pub(crate) fn count(&mut self, value: u64) {
        written(encode::write_uint(&mut self.bytes, value));
    }

    pub(crate) fn float(&mut self, value: f64) {
        written(encode::write_f64(&mut self.bytes, value));
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.bytes.into_vec()
    }
}

/// Writing to memory cannot fail, which the type says.
fn written<T>(result: Result<T, ValueWriteError<Infallible>>) {
    match result {
        Ok(_) => {}
        Err(ValueWriteError::InvalidMarkerWrite(never) | ValueWriteError::InvalidDataWrite(never)) => match never {},
    }
}
