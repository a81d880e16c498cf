//! Rows of a Parquet file: img2dataset's (`jpg`, `txt`, `key`, `status`) and those of Hugging Face data sets (`image` with `bytes` and
//! `path`, `text`). Row groups are streamed; memory holds a page of each column and a few rows.

use super::Broken;
use super::group::{Found, RawSample};
use super::rows::{Beside, Samples};
use crate::{Limits, SkipReason, SourceOptions};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows decoded at a time: few, as each may hold a picture.
const ROWS: usize = 16;

/// Rows of the file, as its footer says; 0 if it cannot be read.
pub(crate) fn count_rows(path: &Path) -> u64 {
    let open = || SerializedFileReader::new(File::open(path).ok()?).ok();
    open().map_or(0, |file| file.metadata().file_metadata().num_rows().max(0) as u64)
}

/// The samples of a file.
pub(super) fn read(path: &Path, options: &SourceOptions, limits: &Limits) -> Result<Samples<'static>, Broken> {
    let missing = |e: std::io::Error| Broken::new(SkipReason::ShardMissing, format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(missing)?;
    let damaged = |e: ParquetError| Broken::new(SkipReason::ParquetDamaged, e.to_string());
    let file = SerializedFileReader::new(file).map_err(damaged)?;
    let schema = file.metadata().file_metadata().schema().clone();
    let columns = Columns::find(&schema, options).map_err(|e| Broken::new(SkipReason::ShardFormat, e))?;
    let rows = RowIter::from_file_into(Box::new(file));
    let rows =
        rows.project(Some(columns.projection(&schema).map_err(damaged)?)).map_err(damaged)?.with_batch_size(ROWS);
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    Ok(Box::new(Rows { rows: Some(rows), columns, folder, number: 0, limits: *limits }))
}

/// The columns that are read, by name.
struct Columns {
    image: String,
    caption: String,
    rest: Vec<String>,
}

impl Columns {
    fn find(schema: &Type, options: &SourceOptions) -> Result<Columns, String> {
        let fields = schema.get_fields();
        let names: Vec<String> = fields.iter().map(|field| field.name().to_string()).collect();
        let (image, caption) = (options.image_column(&names)?, options.caption_column(&names)?);
        let rest = (0..names.len()).filter(|at| *at != image && *at != caption && plain(&fields[*at]));
        let rest = rest.map(|at| names[at].clone()).collect();
        Ok(Columns { image: names[image].clone(), caption: names[caption].clone(), rest })
    }

    fn projection(&self, schema: &Type) -> Result<Type, ParquetError> {
        let wanted =
            |name: &str| name == self.image || name == self.caption || self.rest.iter().any(|rest| rest == name);
        let fields: Vec<TypePtr> =
            schema.get_fields().iter().filter(|field| wanted(field.name())).map(Arc::clone).collect();
        Type::group_type_builder(schema.name()).with_fields(fields).build()
    }
}

/// Whether a column is a number or a text, which enters the sample's JSON.
fn plain(column: &Type) -> bool {
    let info = column.get_basic_info();
    let text = info.converted_type() == ConvertedType::UTF8
        || matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Json));
    column.is_primitive() && (text || column.get_physical_type() != Physical::BYTE_ARRAY)
}

struct Rows {
    rows: Option<RowIter<'static>>,
    columns: Columns,
    folder: PathBuf,
    number: u64,
    limits: Limits,
}

impl Iterator for Rows {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let rows = self.rows.as_mut()?;
            // The library panics on some damaged pages; that must not end more than the shard.
            let row = catch_unwind(AssertUnwindSafe(|| rows.next()));
            let problem = match row {
                Ok(None) => {
                    self.rows = None;
                    return None;
                }
                Ok(Some(Ok(row))) => {
                    self.number += 1;
                    match self.sample(row) {
                        Some(sample) => return Some(Found::Sample(sample)),
                        None => continue,
                    }
                }
                Ok(Some(Err(e))) => e.to_string(),
                Err(_) => "the page cannot be decoded".to_string(),
            };
            self.rows = None;
            let detail = format!("after row {}: {problem}", self.number);
            return Some(Found::Note(None, Broken::new(SkipReason::ParquetDamaged, detail)));
        }
    }
}

impl Rows {
    /// The sample of a row; none for a row whose picture could not be fetched.
    fn sample(&self, row: Row) -> Option<RawSample> {
        // Rows are told apart by their number, so that a key may repeat.
        let number = self.number - 1;
        let mut sample = RawSample { repeat: number as u32, ..RawSample::of(format!("{number:09}")) };
        let mut json = Map::new();
        for (name, field) in row.into_columns() {
            if name == self.columns.image {
                self.picture(field, &mut sample);
            } else if name == self.columns.caption {
                sample.captions = captions(&field);
            } else {
                match (name.as_str(), &field) {
                    ("status", Field::Str(status)) if status != "success" => return None,
                    ("key", Field::Str(key)) => sample.key = key.clone(),
                    ("cls" | "label", field) => sample.class = field_value(field).map(|v| v.to_string().into_bytes()),
                    _ => {}
                }
                json.extend(field_value(&field).map(|value| (name, value)));
            }
        }
        sample.json = Some(Value::Object(json).to_string().into_bytes());
        Some(sample)
    }

    fn picture(&self, field: Field, sample: &mut RawSample) {
        match field {
            Field::Bytes(bytes) if bytes.len() as u64 > self.limits.member_bytes => {
                let detail = format!("picture of {} bytes in row {}", bytes.len(), self.number);
                sample.refused = Some(Broken::new(SkipReason::MemberTooLarge, detail));
            }
            Field::Bytes(bytes) => sample.image = Some(bytes.data().to_vec()),
            Field::Str(path) => sample.beside = Some(Beside { image: self.folder.join(path), stem: None }),
            Field::Group(parts) => {
                let parts = parts.into_columns();
                let part = |name: &str| {
                    parts
                        .iter()
                        .find(|(known, field)| known == name && !matches!(field, Field::Null))
                        .map(|(_, f)| f.clone())
                };
                if let Some(found) = part("bytes").or_else(|| part("path")) {
                    self.picture(found, sample);
                }
            }
            _ => {}
        }
    }
}

/// One text, or a list of texts.
fn captions(field: &Field) -> Vec<Vec<u8>> {
    match field {
        Field::Str(text) => vec![text.as_bytes().to_vec()],
        Field::Bytes(bytes) => vec![bytes.data().to_vec()],
        Field::ListInternal(list) => list.elements().iter().flat_map(captions).collect(),
        _ => Vec::new(),
    }
}

/// A number, a text or a truth value as JSON.
fn field_value(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Str(text) => Value::from(text.as_str()),
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        _ => return None,
    })
}
