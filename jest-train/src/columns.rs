//! Tables on disk, as Parquet.

use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

/// A column with its name; all of a table are of one length.
pub(crate) enum Column<'a> {
    /// Texts.
    Text(&'static str, &'a [String]),
    /// Whole numbers.
    Count(&'static str, &'a [i64]),
    /// Numbers.
    Float(&'static str, &'a [f32]),
}

impl Column<'_> {
    fn schema(&self) -> String {
        match self {
            Self::Text(name, _) => format!("required binary {name} (utf8);"),
            Self::Count(name, _) => format!("required int64 {name};"),
            Self::Float(name, _) => format!("required float {name};"),
        }
    }

    fn write(&self, column: &mut SerializedColumnWriter<'_>) -> Result<usize> {
        match self {
            Self::Text(_, texts) => {
                let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(text.as_str())).collect();
                column.typed::<ByteArrayType>().write_batch(&values, None, None)
            }
            Self::Count(_, values) => column.typed::<Int64Type>().write_batch(values, None, None),
            Self::Float(_, values) => column.typed::<FloatType>().write_batch(values, None, None),
        }
    }
}

/// A whole file of one row group.
pub(crate) fn parquet(columns: &[Column<'_>]) -> Result<Vec<u8>> {
    let fields: String = columns.iter().map(Column::schema).collect();
    let schema = Arc::new(parse_message_type(&format!("message table {{ {fields} }}"))?);
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties)?;
    let mut group = writer.next_row_group()?;
    for values in columns {
        if let Some(mut column) = group.next_column()? {
            values.write(&mut column)?;
            column.close()?;
        }
    }
    group.close()?;
    writer.into_inner()
}
