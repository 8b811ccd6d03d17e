//! Classes of packages that need a rule of their own. What is written keeps all that the object knows of the file.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::classes::Reader;
use super::failure::Written;
use super::write::{Keys, Pair, Writer};

/// Writes an object of a known class.
pub(super) fn write<'py>(writer: &mut Writer<'_, 'py>, reader: Reader, object: &Bound<'py, PyAny>) -> Written {
    match reader {
        // evaluated at the first look, and kept
        Reader::AfmLazyValue => writer.value(&object.call0()?),
        Reader::AstropyHeader => header(writer, object),
        Reader::DicomDataset => dataset(writer, object),
        Reader::LasioItem => lasio_item(writer, object),
        Reader::LasioSection => {
            let items = object.try_iter()?.map(|item| {
                let item = item?;
                Ok((item.getattr("mnemonic")?, item))
            });
            writer.object(items, Keys::Any)
        }
        Reader::LaspyEncoding => writer.value(&object.getattr("value")?),
        Reader::LaspyVlr => {
            let fields = attributes(object, &["user_id", "record_id", "description"]);
            let data = (PyString::new(writer.py, "record_data").into_any(), object.call_method0("record_data_bytes")?);
            writer.object(fields.chain([Ok(data)]), Keys::Any)
        }
        Reader::MatlabStruct => {
            let names = object.getattr("_fieldnames")?;
            writer.object(
                names.try_iter()?.map(|name| {
                    let name = name?;
                    let value = object.getattr(name.cast::<PyString>()?)?;
                    Ok((name, value))
                }),
                Keys::Any,
            )
        }
        // a card of FITS or an attribute of HDF5 that has none
        Reader::NoValue => writer.null(),
        Reader::ObspyTime => obspy_time(writer, object),
        Reader::PillowRational => writer.value(&writer.py.import("builtins")?.getattr("float")?.call1((object,))?),
        Reader::SparseMatrix => sparse(writer, object),
    }
}

fn attributes<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    names: &'a [&'static str],
) -> impl Iterator<Item = PyResult<Pair<'py>>> + 'a {
    names.iter().map(|name| Ok((PyString::new(object.py(), name).into_any(), object.getattr(*name)?)))
}

/// A header of FITS: each keyword once. Those that occur several times, such as `COMMENT`, have a list of their cards.
fn header<'py>(writer: &mut Writer<'_, 'py>, header: &Bound<'py, PyAny>) -> Written {
    let keywords = PyDict::new(writer.py);
    for keyword in header.call_method0("keys")?.try_iter()? {
        let keyword = keyword?;
        if keywords.contains(&keyword)? {
            continue;
        }
        let times: usize = header.call_method1("count", (&keyword,))?.extract()?;
        let value = if times < 2 {
            header.get_item(&keyword)?
        } else {
            let cards = (0..times).map(|number| header.get_item((&keyword, number)));
            PyList::new(writer.py, cards.collect::<PyResult<Vec<_>>>()?)?.into_any()
        };
        keywords.set_item(keyword, value)?;
    }
    writer.value(keywords.as_any())
}

/// A data set of DICOM: `{keyword: value}`, and `(gggg,eeee)` for elements that the standard does not name.
fn dataset<'py>(writer: &mut Writer<'_, 'py>, dataset: &Bound<'py, PyAny>) -> Written {
    let elements = dataset.try_iter()?.map(|element| {
        let element = element?;
        let keyword = element.getattr("keyword")?;
        let key = if keyword.is_truthy()? { keyword } else { element.getattr("tag")?.str()?.into_any() };
        Ok((key, element.getattr("value")?))
    });
    writer.object(elements, Keys::Any)
}

/// A line of the header of a well log. A curve also has its data.
fn lasio_item<'py>(writer: &mut Writer<'_, 'py>, item: &Bound<'py, PyAny>) -> Written {
    let data = item.getattr("data")?;
    let data = if data.is_none() { None } else { Some(Ok((PyString::new(writer.py, "data").into_any(), data))) };
    writer.object(attributes(item, &["mnemonic", "unit", "value", "descr"]).chain(data), Keys::Any)
}

/// A time in UTC with all its digits; its own `isoformat()` rounds to a microsecond and leaves out that it is UTC.
fn obspy_time<'py>(writer: &mut Writer<'_, 'py>, time: &Bound<'py, PyAny>) -> Written {
    let ns: i128 = time.getattr("ns")?.extract()?;
    let (seconds, ns) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let module = writer.py.import("datetime")?;
    let length = module.getattr("timedelta")?.call1((0, seconds))?;
    let whole = module.getattr("datetime")?.call1((1970, 1, 1))?.add(length)?.call_method0("isoformat")?;
    let part = match (ns, ns % 1_000) {
        (0, _) => String::new(),
        (_, 0) => format!(".{:06}", ns / 1_000),
        _ => format!(".{ns:09}"),
    };
    writer.sink.text(&format!("{whole}{part}Z"));
    Ok(())
}

/// A sparse matrix: its shape, and row, column and value of each entry that it stores.
fn sparse<'py>(writer: &mut Writer<'_, 'py>, matrix: &Bound<'py, PyAny>) -> Written {
    let entries = matrix.call_method0("tocoo")?;
    let is_matrix = entries.getattr("ndim")?.eq(2)?;
    let parts: &[&str] = if is_matrix { &["shape", "row", "col", "data"] } else { &["shape", "coords", "data"] };
    writer.object(attributes(&entries, parts), Keys::Any)
}
