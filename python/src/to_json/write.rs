//! One value after the other, in the order of the dictionary.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use super::classes::{Classes, Kind};
use super::failure::{self, Failure, Written};
use super::sink::{NO_TIME, NO_VALUE, Sink};
use super::{Dumped, Nan, Options, arrays, readers};

/// Containers inside of containers; half of what `json.loads` reads. Also ends what makes new objects at each level.
const DEEPEST: usize = 500;

/// Writes one dictionary.
pub(super) struct Writer<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) sink: Sink,
    options: &'a Options,
    classes: Classes<'py>,
    /// The addresses of the containers around the value.
    open: Vec<usize>,
}

/// Whether keys that are texts differ already, as those of a `dict` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Distinct,
    Any,
}

pub(super) type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

impl<'a, 'py> Writer<'a, 'py> {
    pub(super) fn new(py: Python<'py>, options: &'a Options) -> Self {
        Self { py, sink: Sink::new(options), options, classes: Classes::default(), open: Vec::new() }
    }

    pub(super) fn finish(self) -> Dumped {
        self.sink.finish()
    }

    /// Writes any value.
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>) -> Written {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.sink.float(number.value())
        } else if value.is_none() {
            self.null()
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.sink.bool(truth.is_true());
            Ok(())
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.integer(number)
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.within(value, |writer| writer.list(list.iter().map(Ok)))
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.within(value, |writer| writer.list(tuple.iter().map(Ok)))
        } else if let Ok(dictionary) = value.cast_exact::<PyDict>() {
            // a copy of the items: other threads may change the dictionary meanwhile
            self.within(value, |writer| writer.object(pairs(&dictionary.items()), Keys::Distinct))
        } else {
            let kind = self.classes.kind(value)?;
            self.of_kind(value, kind)
        }
    }

    fn of_kind(&mut self, value: &Bound<'py, PyAny>, kind: Kind) -> Written {
        match kind {
            Kind::Array => arrays::array(self, value, None),
            Kind::MaskedArray => arrays::masked(self, value),
            Kind::Scalar => arrays::scalar(self, value),
            Kind::Enum => self.within(value, |writer| writer.value(&value.getattr("_value_")?)),
            Kind::Decimal => self.decimal(value),
            Kind::Duration => self.duration(value),
            Kind::Text => self.text(&value.str()?),
            Kind::Path => {
                let path = self.py.import("os")?.call_method1("fspath", (value,))?;
                self.within(value, |writer| writer.value(&path))
            }
            Kind::Integer => self.integer(value.cast()?),
            Kind::Float => self.sink.float(value.cast::<PyFloat>()?.value()),
            Kind::Str => self.text(value.cast()?),
            Kind::Bytes => self.bytes(value.cast::<PyBytes>()?.as_bytes()),
            Kind::Buffer => self.buffer(value),
            Kind::Dataclass => self.within(value, |writer| writer.dataclass(value)),
            Kind::Mapping => self.mapping(value),
            // what stands in attributes would be lost
            Kind::Keyed | Kind::Iterable if !failure::attributes(value).is_empty() => self.unknown(value, None),
            Kind::Keyed => self.within(value, |writer| writer.keyed(value)),
            Kind::List => self.within(value, |writer| writer.list(value.try_iter()?)),
            Kind::Iterable => self.within(value, |writer| writer.list(value.try_iter()?)),
            Kind::Set => self.within(value, |writer| writer.set(value)),
            Kind::Date => self.date(value),
            Kind::Missing => self.sink.no_number(NO_VALUE),
            Kind::Reader(reader) => self.within(value, |writer| readers::write(writer, reader, value)),
            Kind::Complex => {
                let parts = ["real", "imag"].into_iter().map(|part| value.getattr(part));
                self.within(value, |writer| writer.list(parts))
            }
            Kind::Refused(remedy) => self.unknown(value, Some(remedy)),
            Kind::Unknown => self.unknown(value, None),
        }
    }

    /// Writes what the user's `default` makes of an object that has no rule.
    fn unknown(&mut self, value: &Bound<'py, PyAny>, remedy: Option<&str>) -> Written {
        let Some(default) = &self.options.default else {
            return Err(remedy.map_or_else(|| failure::unknown(value), |remedy| failure::refused(value, remedy)));
        };
        let instead = default.bind(self.py).call1((value,))?;
        self.within(value, |writer| writer.value(&instead))
    }

    /// Writes what a container holds, unless the container is held by itself or by too many others.
    pub(super) fn within(
        &mut self,
        container: &Bound<'py, PyAny>,
        write: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        let address = container.as_ptr() as usize;
        if self.open.contains(&address) {
            return Err(Failure::of_value("the value is one of the objects around it, so the text would have no end"));
        }
        if self.open.len() >= DEEPEST {
            return Err(Failure::of_value(format!("the value lies more than {DEEPEST} levels deep")));
        }
        self.open.push(address);
        write(self)?;
        self.open.pop();
        Ok(())
    }

    pub(super) fn null(&mut self) -> Written {
        self.sink.out.push_str("null");
        Ok(())
    }

    /// Writes a text. One that Python made of bytes which are not UTF-8 (`surrogateescape`) is written as these bytes.
    pub(super) fn text(&mut self, text: &Bound<'py, PyString>) -> Written {
        if let Ok(text) = text.to_str() {
            self.sink.text(text);
            return Ok(());
        }
        let bytes = text.call_method1("encode", ("utf-8", "surrogateescape")).map_err(|_| {
            Failure::of_value(
                "the text holds one half of a UTF-16 pair; decode the bytes that it came from again, or return \
                 `ascii(…)` of it",
            )
        })?;
        self.bytes(bytes.cast::<PyBytes>()?.as_bytes())
    }

    /// Writes bytes: as text where they are UTF-8, else as an object with base64.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Written {
        if let Ok(text) = str::from_utf8(bytes) {
            self.sink.text(text);
        } else {
            self.sink.out.push_str("{\"base64\": \"");
            STANDARD.encode_string(bytes, &mut self.sink.out);
            self.sink.out.push_str("\"}");
        }
        Ok(())
    }

    fn buffer(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let view = self.py.import("builtins")?.getattr("memoryview")?.call1((value,))?;
        let (format, dimensions): (String, usize) =
            (view.getattr("format")?.extract()?, view.getattr("ndim")?.extract()?);
        if dimensions == 1 && matches!(format.as_str(), "B" | "b" | "c") {
            return self.bytes(view.call_method0("tobytes")?.cast::<PyBytes>()?.as_bytes());
        }
        let elements = view.call_method0("tolist")?;
        self.within(value, |writer| writer.value(&elements))
    }

    fn integer(&mut self, number: &Bound<'py, PyInt>) -> Written {
        if let Ok(small) = number.extract::<i64>() {
            self.sink.display(small);
            return Ok(());
        }
        // `int.__repr__` refuses more than 4,300 digits
        let int = self.py.get_type::<PyInt>();
        let size = int.call_method1("__abs__", (number,))?;
        let bits: usize = size.call_method0("bit_length")?.extract()?;
        let bytes = size.call_method1("to_bytes", (bits.div_ceil(8), "little"))?;
        self.sink.large_integer(number.lt(0)?, bytes.cast::<PyBytes>()?.as_bytes());
        Ok(())
    }

    fn decimal(&mut self, value: &Bound<'py, PyAny>) -> Written {
        // of the base class: a class of a reader may add what JSON does not allow
        let text = self.py.import("decimal")?.getattr("Decimal")?.call_method1("__str__", (value,))?;
        match text.extract::<&str>()? {
            "Infinity" => self.sink.no_number("Infinity"),
            "-Infinity" => self.sink.no_number("-Infinity"),
            text if text.contains("NaN") => self.sink.no_number("NaN"),
            text => {
                self.sink.out.push_str(text);
                Ok(())
            }
        }
    }

    fn duration(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let part = |name: &str| value.getattr(name)?.extract::<i64>();
        let (Ok(days), Ok(seconds), Ok(micros)) = (part("days"), part("seconds"), part("microseconds")) else {
            return self.unknown(value, None);
        };
        // a duration of pandas goes beyond a microsecond
        let nanos = if value.hasattr("nanoseconds")? { part("nanoseconds")? } else { 0 };
        let seconds = i128::from(days) * 86_400 + i128::from(seconds);
        self.sink.seconds((seconds * 1_000_000 + i128::from(micros)) * 1_000 + i128::from(nanos), 9);
        Ok(())
    }

    fn date(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let text = value.call_method0("isoformat")?;
        match text.cast::<PyString>() {
            Ok(text) if *text == NO_TIME => self.sink.no_number(NO_TIME),
            Ok(text) => self.text(text),
            Err(_) => self.unknown(value, None),
        }
    }

    fn dataclass(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let fields = self.py.import("dataclasses")?.call_method1("fields", (value,))?;
        let pairs = fields.try_iter()?.map(|field| {
            let name = field?.getattr("name")?;
            let value = value.getattr(name.cast::<PyString>()?)?;
            Ok((name, value))
        });
        self.object(pairs, Keys::Any)
    }

    fn mapping(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let items = value.cast::<PyMapping>()?.items()?;
        if items.is_empty() && !failure::attributes(value).is_empty() {
            // a dictionary by its class alone, with the content in its attributes: `{}` would lose it
            return self.unknown(value, None);
        }
        self.within(value, |writer| writer.object(pairs(&items), Keys::Any))
    }

    fn keyed(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let keys = value.call_method0("keys")?;
        self.object(
            keys.try_iter()?.map(|key| {
                let key = key?;
                let value = value.get_item(&key)?;
                Ok((key, value))
            }),
            Keys::Any,
        )
    }

    /// Writes the elements of a list.
    pub(super) fn list(&mut self, elements: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>) -> Written {
        self.sink.out.push('[');
        for (index, element) in elements.enumerate() {
            if index > 0 {
                self.sink.out.push_str(", ");
            }
            self.sink.room()?;
            self.value(&element?).map_err(|failure| failure.at(index))?;
        }
        self.sink.out.push(']');
        Ok(())
    }

    /// Writes keys and values, each key once.
    pub(super) fn object(&mut self, pairs: impl Iterator<Item = PyResult<Pair<'py>>>, keys: Keys) -> Written {
        // the keys that are texts and differ; they are looked at once there are other keys
        let mut seen: HashMap<String, Bound<'py, PyAny>> = HashMap::new();
        let mut texts = Vec::new();
        self.sink.out.push('{');
        for (index, pair) in pairs.enumerate() {
            let (key, value) = pair?;
            if index > 0 {
                self.sink.out.push_str(", ");
            }
            self.sink.room()?;
            let start = self.sink.out.len();
            self.key(&key)?;
            let end = self.sink.out.len();
            if keys == Keys::Distinct && seen.is_empty() && key.is_exact_instance_of::<PyString>() {
                texts.push(key);
            } else {
                for text in texts.drain(..) {
                    let written = self.apart(&text)?;
                    seen.insert(written, text);
                }
                match seen.entry(self.sink.out[start..end].to_owned()) {
                    Entry::Vacant(free) => _ = free.insert(key),
                    Entry::Occupied(other) => return Err(collision(other.key(), other.get(), &key)),
                }
            }
            self.sink.out.push_str(": ");
            if let Err(failure) = self.value(&value) {
                return Err(failure.under(&self.sink.out[start..end]));
            }
        }
        self.sink.out.push('}');
        Ok(())
    }

    /// Writes a key by the rules for values, as text.
    fn key(&mut self, key: &Bound<'py, PyAny>) -> Written {
        if let Ok(text) = key.cast_exact::<PyString>()
            && let Ok(text) = text.to_str()
        {
            self.sink.text(text);
            return Ok(());
        }
        let (nan, nans) = (self.sink.nan, self.sink.nans);
        if nan == Nan::Null {
            // as text, NaN is JSON
            self.sink.nan = Nan::Python;
        }
        let text = self.apart(key).map_err(|failure| failure.under("a key"))?;
        (self.sink.nan, self.sink.nans) = (nan, nans);
        match text.as_bytes().first() {
            Some(b'"') => self.sink.out.push_str(&text),
            Some(b'[' | b'{') => {
                return Err(Failure::of_type(format!(
                    "the key {text} (`{}`) is no text; make a text of it, such as `\"/\".join(…)` or `key.hex()`",
                    failure::name_of(&key.get_type())
                )));
            }
            _ => self.sink.display(format_args!("\"{text}\"")),
        }
        Ok(())
    }

    /// Writes the elements of a set, sorted: texts as Python sorts them, numbers by size, all else by its JSON text.
    fn set(&mut self, value: &Bound<'py, PyAny>) -> Written {
        let elements: Vec<_> = value.try_iter()?.collect::<PyResult<_>>()?;
        if elements.iter().all(|element| element.is_exact_instance_of::<PyString>()) {
            let elements = PyList::new(self.py, elements)?;
            elements.sort()?;
            return self.list(elements.iter().map(Ok));
        }
        let mut texts = Vec::with_capacity(elements.len());
        for element in &elements {
            texts.push(self.apart(element).map_err(|failure| failure.under("an element of the set"))?);
        }
        texts.sort_by(|a, b| match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
            _ => a.cmp(b),
        });
        self.sink.display(format_args!("[{}]", texts.join(", ")));
        Ok(())
    }

    /// What a value is written as, without writing it.
    fn apart(&mut self, value: &Bound<'py, PyAny>) -> Result<String, Failure> {
        let start = self.sink.out.len();
        self.value(value)?;
        Ok(self.sink.out.split_off(start))
    }
}

/// The pairs of a list of items.
pub(super) fn pairs<'py>(items: &Bound<'py, PyList>) -> impl Iterator<Item = PyResult<Pair<'py>>> + use<'py> {
    items.iter().map(|item| item.extract())
}

fn collision(text: &str, one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> Failure {
    let (one, other) = (failure::name_of(&one.get_type()), failure::name_of(&other.get_type()));
    Failure::of_value(if one == other {
        format!("two keys (`{one}`) are both written as {text}, and one would be lost; rename one of them")
    } else {
        format!("the keys `{one}` and `{other}` are both written as {text}, and one would be lost; rename one of them")
    })
}
