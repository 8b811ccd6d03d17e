//! Arrays and scalars of numpy, through their own methods. Numbers are taken as bytes in the order of C, whatever strides
//! the array has, and written without the interpreter.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyString};

use super::failure::{Failure, Written, unknown};
use super::sink::{LARGEST_TEXT, NO_TIME, Number, Numbers, Sink};
use super::write::Writer;

/// From this number of elements on, other threads have the interpreter meanwhile.
const MANY: usize = 10_000;

/// The elements of an array in a row.
enum Elements<'py> {
    Numbers(Numbers, PyBackedBytes),
    /// 64-bit counts of a part of a second: the count stands for this many 10⁻ⁿ-th parts.
    Durations(PyBackedBytes, i128, u32),
    /// Dates as text.
    Dates(Bound<'py, PyList>),
    Objects(Bound<'py, PyList>),
    /// The fields of a structured array, each with its shape in one element.
    Rows(Vec<(Bound<'py, PyString>, Vec<usize>, Elements<'py>)>),
    /// A byte for each element: whether it is masked.
    Masked(PyBackedBytes, Box<Elements<'py>>),
}

/// What the writing of elements needs.
trait HasSink {
    fn sink(&mut self) -> &mut Sink;
}

impl HasSink for Sink {
    fn sink(&mut self) -> &mut Sink {
        self
    }
}

impl HasSink for Writer<'_, '_> {
    fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }
}

/// Writes an array, with `null` where the mask says so.
pub(super) fn array<'py>(
    writer: &mut Writer<'_, 'py>,
    array: &Bound<'py, PyAny>,
    mask: Option<&Bound<'py, PyAny>>,
) -> Written {
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let count: usize = shape.iter().product();
    if count > LARGEST_TEXT / 2 {
        return Err(super::failure::too_large());
    }
    let elements = Elements::of(array, mask)?;
    writer.within(array, |writer| match &elements {
        Elements::Numbers(numbers, bytes) => {
            let sink = &mut writer.sink;
            let write = |sink: &mut Sink, index| numbers.write(sink, bytes, index);
            if count < MANY {
                nested(sink, &shape, &mut 0, &write)
            } else {
                array.py().detach(|| nested(sink, &shape, &mut 0, &write))
            }
        }
        elements => {
            nested(writer, &shape, &mut 0, &|writer: &mut Writer<'_, 'py>, index| elements.write(writer, index))
        }
    })
}

/// Writes a masked array.
pub(super) fn masked<'py>(writer: &mut Writer<'_, 'py>, masked: &Bound<'py, PyAny>) -> Written {
    let data = masked.getattr("data")?;
    let mask = masked.getattr("mask")?;
    // `nomask` is one `False` for the whole array
    let has_mask = mask.getattr("shape")?.eq(data.getattr("shape")?)?;
    array(writer, &data, has_mask.then_some(&mask))
}

/// Writes a scalar of numpy.
pub(super) fn scalar<'py>(writer: &mut Writer<'_, 'py>, scalar: &Bound<'py, PyAny>) -> Written {
    let dtype = scalar.getattr("dtype")?;
    let (kind, size): (char, usize) = (dtype.getattr("kind")?.extract()?, dtype.getattr("itemsize")?.extract()?);
    match kind {
        'f' if size > 8 => extended(writer, scalar),
        'c' if size > 16 => {
            let parts = ["real", "imag"].into_iter().map(|part| scalar.getattr(part));
            writer.within(scalar, |writer| writer.list(parts))
        }
        'V' if dtype.getattr("names")?.is_none() => {
            let bytes = scalar.call_method0("tobytes")?;
            writer.bytes(bytes.cast::<PyBytes>()?.as_bytes())
        }
        _ => array(writer, scalar, None),
    }
}

/// A number with more digits than a `float`: numpy writes the shortest ones that give it back.
fn extended<'py>(writer: &mut Writer<'_, 'py>, scalar: &Bound<'py, PyAny>) -> Written {
    match scalar.str()?.to_str()? {
        "inf" => writer.sink.no_number("Infinity"),
        "-inf" => writer.sink.no_number("-Infinity"),
        "nan" | "-nan" => writer.sink.no_number("NaN"),
        digits => {
            writer.sink.out.push_str(digits);
            Ok(())
        }
    }
}

impl<'py> Elements<'py> {
    fn of(array: &Bound<'py, PyAny>, mask: Option<&Bound<'py, PyAny>>) -> Result<Self, Failure> {
        let dtype = array.getattr("dtype")?;
        let names = dtype.getattr("names")?;
        if !names.is_none() {
            return Self::rows(array, mask, &names);
        }
        let flat = array.call_method1("reshape", (-1,))?;
        let (kind, size): (char, usize) = (dtype.getattr("kind")?.extract()?, dtype.getattr("itemsize")?.extract()?);
        let numbers = |kind, size| -> Result<Self, Failure> {
            let native: bool = dtype.getattr("isnative")?.extract()?;
            let big_endian = native == cfg!(target_endian = "big");
            Ok(Self::Numbers(Numbers { kind, size, big_endian }, flat.call_method0("tobytes")?.extract()?))
        };
        let elements = match (kind, size) {
            ('b', 1) => numbers(Number::Bool, size)?,
            ('i', 1..=8) => numbers(Number::Signed, size)?,
            ('u', 1..=8) => numbers(Number::Unsigned, size)?,
            ('f', 2 | 4 | 8) => numbers(Number::Float, size)?,
            ('c', 8 | 16) => numbers(Number::Complex, size / 2)?,
            ('M', _) => {
                let texts = flat.call_method1("astype", ("U",))?.call_method0("tolist")?;
                Self::Dates(texts.cast_into()?)
            }
            ('m', 8) => Self::durations(&flat, &dtype)?,
            _ => Self::Objects(flat.call_method0("tolist")?.cast_into()?),
        };
        let Some(mask) = mask else { return Ok(elements) };
        let mask = mask.call_method1("reshape", (-1,))?.call_method0("tobytes")?;
        Ok(Self::Masked(mask.extract()?, Box::new(elements)))
    }

    fn rows(
        array: &Bound<'py, PyAny>,
        mask: Option<&Bound<'py, PyAny>>,
        names: &Bound<'py, PyAny>,
    ) -> Result<Self, Failure> {
        let dimensions: usize = array.getattr("ndim")?.extract()?;
        let mut fields = Vec::new();
        for name in names.try_iter()? {
            let name = name?.cast_into::<PyString>()?;
            let field = array.get_item(&name)?;
            let mask = mask.map(|mask| mask.get_item(&name)).transpose()?;
            // an array in a structured scalar may come as an object that has no shape
            let shape: Vec<usize> = match field.getattr_opt("shape")? {
                Some(shape) => shape.extract()?,
                None => return Err(unknown(&field).under(&format!("\"{name}\""))),
            };
            let inner = shape.get(dimensions..).unwrap_or_default().to_vec();
            fields.push((name, inner, Self::of(&field, mask.as_ref())?));
        }
        Ok(Self::Rows(fields))
    }

    /// `dtype.str` is `<m8[ns]`, `<m8[25s]`, or `<m8` for counts without a unit.
    fn durations(flat: &Bound<'py, PyAny>, dtype: &Bound<'py, PyAny>) -> Result<Self, Failure> {
        let name: String = dtype.getattr("str")?.extract()?;
        let unit = name.split_once('[').map_or("", |(_, unit)| unit.trim_end_matches(']'));
        let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (times, unit) = unit.split_at(digits);
        let (size, n) = match unit {
            "W" => (604_800, 0),
            "D" => (86_400, 0),
            "h" => (3_600, 0),
            "m" => (60, 0),
            "s" => (1, 0),
            "ms" => (1, 3),
            "us" => (1, 6),
            "ns" => (1, 9),
            "ps" => (1, 12),
            "fs" => (1, 15),
            "as" => (1, 18),
            _ => {
                return Err(Failure::of_type(format!(
                    "a duration in `{name}` has no length in seconds; return `….astype(int)` and the unit"
                )));
            }
        };
        let counts = flat.call_method1("astype", ("<i8",))?.call_method0("tobytes")?;
        Ok(Self::Durations(counts.extract()?, size * times.parse().unwrap_or(1), n))
    }

    fn write(&self, writer: &mut Writer<'_, 'py>, index: usize) -> Written {
        match self {
            Self::Numbers(numbers, bytes) => numbers.write(&mut writer.sink, bytes, index),
            Self::Durations(counts, size, n) => {
                let layout = Numbers { kind: Number::Signed, size: 8, big_endian: false };
                match layout.signed(counts, index) {
                    i64::MIN => writer.sink.no_number(NO_TIME),
                    count => {
                        writer.sink.seconds(i128::from(count) * size, *n);
                        Ok(())
                    }
                }
            }
            Self::Dates(texts) => {
                let text = texts.get_item(index)?;
                let text = text.cast::<PyString>()?;
                if *text == NO_TIME { writer.sink.no_number(NO_TIME) } else { writer.text(text) }
            }
            Self::Objects(objects) => writer.value(&objects.get_item(index)?),
            Self::Masked(mask, elements) => {
                if mask[index] != 0 {
                    writer.null()
                } else {
                    elements.write(writer, index)
                }
            }
            Self::Rows(fields) => row(writer, fields, index),
        }
    }
}

fn row<'py>(
    writer: &mut Writer<'_, 'py>,
    fields: &[(Bound<'py, PyString>, Vec<usize>, Elements<'py>)],
    index: usize,
) -> Written {
    writer.sink.out.push('{');
    for (number, (name, shape, elements)) in fields.iter().enumerate() {
        if number > 0 {
            writer.sink.out.push_str(", ");
        }
        let start = writer.sink.out.len();
        writer.text(name)?;
        let end = writer.sink.out.len();
        writer.sink.out.push_str(": ");
        let mut at = index * shape.iter().product::<usize>();
        let write = |writer: &mut Writer<'_, 'py>, index| elements.write(writer, index);
        if let Err(failure) = nested(writer, shape, &mut at, &write) {
            return Err(failure.under(&writer.sink.out[start..end]));
        }
    }
    writer.sink.out.push('}');
    Ok(())
}

/// Writes lists in lists by the shape, from the element `at` on.
fn nested<S: HasSink>(
    to: &mut S,
    shape: &[usize],
    at: &mut usize,
    write: &impl Fn(&mut S, usize) -> Written,
) -> Written {
    let Some((length, inner)) = shape.split_first() else {
        write(to, *at)?;
        *at += 1;
        return Ok(());
    };
    to.sink().out.push('[');
    for index in 0..*length {
        if index > 0 {
            to.sink().out.push_str(", ");
        }
        to.sink().room()?;
        nested(to, inner, at, write).map_err(|failure| failure.at(index))?;
    }
    to.sink().out.push(']');
    Ok(())
}
