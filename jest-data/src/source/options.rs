//! What a user may say about tables and Parquet files.

use crate::RemoteOptions;

/// Columns and separator of tables and Parquet files, which are found out where they are none; how servers are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Column with the picture: the path of a file, or in Parquet its bytes.
    pub image_key: Option<String>,
    /// Column with the caption.
    pub caption_key: Option<String>,
    /// Character between the columns of a `.csv` or `.tsv` file.
    pub separator: Option<char>,
    /// How shards on servers are read; none for what [`RemoteOptions::install`] was given.
    pub remote: Option<RemoteOptions>,
}

/// Columns with pictures, by priority: open_clip's, img2dataset's, those of Hugging Face data sets, other usual ones.
const IMAGE_COLUMNS: [&str; 11] =
    ["filepath", "jpg", "png", "webp", "image", "file_name", "image_path", "jpeg", "filename", "path", "image_file"];
/// Columns with captions, by priority.
const CAPTION_COLUMNS: [&str; 10] =
    ["title", "txt", "caption", "text", "captions", "sentences", "texts", "alt_text", "description", "label_text"];

impl SourceOptions {
    /// Index of the column with the picture; else what to say.
    pub(crate) fn image_column(&self, columns: &[String]) -> Result<usize, String> {
        find(columns, self.image_key.as_deref(), &IMAGE_COLUMNS, "pictures", "csv_img_key")
    }

    /// Index of the column with the caption; else what to say.
    pub(crate) fn caption_column(&self, columns: &[String]) -> Result<usize, String> {
        find(columns, self.caption_key.as_deref(), &CAPTION_COLUMNS, "captions", "csv_caption_key")
    }
}

fn find(columns: &[String], asked: Option<&str>, usual: &[&str], what: &str, key: &str) -> Result<usize, String> {
    let at = |name: &str| columns.iter().position(|column| column == name);
    let found = match asked {
        Some(name) => at(name),
        None => usual.iter().find_map(|name| at(name)),
    };
    found.ok_or_else(|| {
        let wanted = asked.map_or_else(|| usual.join("`, `"), str::to_string);
        let shown: Vec<&str> = columns.iter().take(30).map(String::as_str).collect();
        format!("no column of {what} (`{wanted}`) among `{}`; name it with `data.{key}`", shown.join("`, `"))
    })
}
