//! Tables of picture files and captions: `.csv`, `.tsv` with a header line, `.jsonl` with an object a line.

use super::{BLOCK, SourceOptions};
use crate::{DataError, Result};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A longer row is taken for a quote that never ends.
const MAX_ROW: u64 = 16 << 20;

/// A table that was looked through once: its columns, and where every block of rows begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    path: PathBuf,
    format: Format,
    columns: Vec<String>,
    image: usize,
    caption: usize,
    /// What relative paths of pictures begin at.
    base: PathBuf,
    blocks: Vec<u64>,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// With this byte between columns.
    Separated(u8),
    JsonLines,
}

/// One row.
pub(crate) struct Row {
    /// The picture's path as the table has it.
    pub key: String,
    pub image: PathBuf,
    pub captions: Vec<Vec<u8>>,
    /// All columns, as a JSON object.
    pub json: String,
}

impl Table {
    /// Looks through a table.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Table` without rows, without the columns, or with a row longer than 16 MiB.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Table> {
        let problem = |problem: String| DataError::Table { path: path.to_path_buf(), problem };
        let mut input = BufReader::new(File::open(path).map_err(DataError::io("read", path))?);
        let mut line = Vec::new();
        input.by_ref().take(MAX_ROW).read_until(b'\n', &mut line).map_err(DataError::io("read", path))?;
        let format = format(path, &line, options).map_err(problem)?;
        let (columns, blocks, rows) = match format {
            Format::Separated(separator) => scan_separated(path, separator),
            Format::JsonLines => scan_lines(path, &line),
        }
        .map_err(|e| {
            if e.kind() == io::ErrorKind::InvalidData { problem(e.to_string()) } else { DataError::io("read", path)(e) }
        })?;
        if rows == 0 {
            return Err(problem("has no row below its header".to_string()));
        }
        let image = options.image_column(&columns).map_err(problem)?;
        let caption = options.caption_column(&columns).map_err(problem)?;
        let mut table =
            Table { path: path.to_path_buf(), format, columns, image, caption, base: PathBuf::new(), blocks, rows };
        table.base = table.find_base();
        Ok(table)
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The first row of every block.
    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        (0..self.rows).step_by(BLOCK)
    }

    /// Paths are relative to the table's folder, or to the working folder where that is where the first picture is.
    fn find_base(&self) -> PathBuf {
        let beside = self.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let first = self.block(0).ok().and_then(|rows| rows.into_iter().flatten().next());
        match first {
            Some(row) if row.image.exists() && !beside.join(&row.image).exists() => PathBuf::new(),
            _ => beside,
        }
    }

    /// The rows of the block that begins with this one; a row that is none says why.
    pub fn block(&self, first: u64) -> io::Result<Vec<std::result::Result<Row, String>>> {
        let Some(start) = self.blocks.get(first as usize / BLOCK) else { return Ok(Vec::new()) };
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(*start))?;
        let most = (self.rows - first).min(BLOCK as u64) as usize;
        match self.format {
            Format::Separated(separator) => self.separated(file, separator, most),
            Format::JsonLines => self.lines(file, most),
        }
    }

    fn separated(&self, file: File, separator: u8, most: usize) -> io::Result<Vec<std::result::Result<Row, String>>> {
        let mut reader = reader(file, separator);
        let (mut record, mut rows) = (csv::ByteRecord::new(), Vec::new());
        while rows.len() < most && next_record(&mut reader, &mut record)? {
            rows.push(self.row_of(&record));
        }
        Ok(rows)
    }

    fn row_of(&self, record: &csv::ByteRecord) -> std::result::Result<Row, String> {
        if record.len() != self.columns.len() {
            return Err(format!("{} columns, the header has {}", record.len(), self.columns.len()));
        }
        let text = |at: usize| String::from_utf8_lossy(&record[at]).into_owned();
        let fields = self.columns.iter().enumerate();
        let json: Map<String, Value> = fields.map(|(at, name)| (name.clone(), Value::String(text(at)))).collect();
        let key = text(self.image);
        let captions = vec![record[self.caption].to_vec()];
        Ok(Row { image: self.base.join(&key), key, captions, json: Value::Object(json).to_string() })
    }

    fn lines(&self, file: File, most: usize) -> io::Result<Vec<std::result::Result<Row, String>>> {
        let mut input = BufReader::new(file);
        let mut rows = Vec::new();
        while rows.len() < most {
            let line = match next_line(&mut input)? {
                Some(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Some(line) => line,
                None => break,
            };
            rows.push(self.row_of_line(line));
        }
        Ok(rows)
    }

    fn row_of_line(&self, line: Vec<u8>) -> std::result::Result<Row, String> {
        let object: Map<String, Value> = serde_json::from_slice(&line).map_err(|e| e.to_string())?;
        let field = |at: usize| object.get(&self.columns[at]).ok_or(format!("no `{}`", self.columns[at]));
        let image = field(self.image)?;
        // Hugging Face writes `{"path": ...}` for a picture beside the table.
        let key = image.as_str().or_else(|| image.get("path")?.as_str()).ok_or("the picture is no path")?.to_string();
        let captions = texts(field(self.caption)?).ok_or(format!("`{}` is no text", self.columns[self.caption]))?;
        let json = String::from_utf8(line).map_err(|e| e.to_string())?;
        Ok(Row { image: self.base.join(&key), key, captions, json })
    }
}

/// One text or a list of texts; none for anything else.
pub(crate) fn texts(value: &Value) -> Option<Vec<Vec<u8>>> {
    let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    match value {
        Value::Array(list) => list.iter().map(bytes).collect(),
        one => bytes(one).map(|one| vec![one]),
    }
}

fn format(path: &Path, first_line: &[u8], options: &SourceOptions) -> std::result::Result<Format, String> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if ending == "jsonl" || ending == "ndjson" {
        return Ok(Format::JsonLines);
    }
    let separator = match options.separator {
        Some(separator) => u8::try_from(separator).ok().filter(u8::is_ascii),
        None if ending == "tsv" || first_line.contains(&b'\t') => Some(b'\t'),
        None => Some(b','),
    };
    separator.map(Format::Separated).ok_or("the separator must be one ASCII character".to_string())
}

/// Refuses to hand out more than one row's worth of bytes before `budget` is renewed.
struct Guarded<R> {
    inner: R,
    budget: u64,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.budget == 0 {
            let text = "a row is longer than 16 MiB; is a quote left open?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let n = self.inner.read(out)?;
        self.budget = self.budget.saturating_sub(n as u64);
        Ok(n)
    }
}

fn reader(file: File, separator: u8) -> csv::Reader<Guarded<File>> {
    let mut build = csv::ReaderBuilder::new();
    build.has_headers(false).flexible(true).delimiter(separator).buffer_capacity(64 << 10);
    build.from_reader(Guarded { inner: file, budget: MAX_ROW })
}

/// The next record; false at the end.
fn next_record(reader: &mut csv::Reader<Guarded<File>>, record: &mut csv::ByteRecord) -> io::Result<bool> {
    reader.get_mut().budget = MAX_ROW;
    reader.read_byte_record(record).map_err(|e| match e.into_kind() {
        csv::ErrorKind::Io(e) => e,
        other => io::Error::new(io::ErrorKind::InvalidData, format!("{other:?}")),
    })
}

type Scanned = (Vec<String>, Vec<u64>, u64);

fn scan_separated(path: &Path, separator: u8) -> io::Result<Scanned> {
    let mut reader = reader(File::open(path)?, separator);
    let (mut record, mut blocks, mut rows) = (csv::ByteRecord::new(), Vec::new(), 0u64);
    if !next_record(&mut reader, &mut record)? {
        return Ok((Vec::new(), blocks, rows));
    }
    let name = |field: &[u8]| String::from_utf8_lossy(field).trim_start_matches('\u{feff}').trim().to_string();
    let columns = record.iter().map(name).collect();
    loop {
        let at = reader.position().byte();
        if !next_record(&mut reader, &mut record)? {
            return Ok((columns, blocks, rows));
        }
        if rows.is_multiple_of(BLOCK as u64) {
            blocks.push(at);
        }
        rows += 1;
    }
}

fn scan_lines(path: &Path, first_line: &[u8]) -> io::Result<Scanned> {
    let first: Map<String, Value> = serde_json::from_slice(first_line)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("line 1 is no JSON object: {e}")))?;
    let columns = first.keys().cloned().collect();
    let mut input = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut blocks, mut rows, mut at) = (Vec::new(), 0u64, 0u64);
    while let Some(line) = next_line(&mut input)? {
        if !line.iter().all(u8::is_ascii_whitespace) {
            if rows.is_multiple_of(BLOCK as u64) {
                blocks.push(at);
            }
            rows += 1;
        }
        at += line.len() as u64;
    }
    Ok((columns, blocks, rows))
}

/// The next line with its end; none at the end of the file.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(MAX_ROW).read_until(b'\n', &mut line)?;
    if line.len() as u64 == MAX_ROW {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 16 MiB"));
    }
    Ok((!line.is_empty()).then_some(line))
}
