//! Captions of a class: its name in every template.

use crate::{DataError, Result};
use std::path::Path;

/// Names of classes, and prompts with `{c}` or `{}` for the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassCaptions {
    pub names: Vec<String>,
    pub templates: Vec<String>,
}

impl ClassCaptions {
    /// Of `classnames.txt` and `zeroshot_classification_templates.txt` in `folder`, as CLIP_benchmark has them; `names` where there
    /// is no file of names. Without templates the name alone.
    pub fn read(folder: &Path, names: Vec<String>) -> Result<ClassCaptions> {
        let file = folder.join("classnames.txt");
        let listed = lines(&file)?;
        if !names.is_empty() && !listed.is_empty() && listed.len() != names.len() {
            let problem =
                format!("{} names for {} folders; give one a folder, in their sorted order", listed.len(), names.len());
            return Err(DataError::Table { path: file, problem });
        }
        let names = if listed.is_empty() { names } else { listed };
        let mut templates = lines(&folder.join("zeroshot_classification_templates.txt"))?;
        templates.retain(|template| template.contains("{c}") || template.contains("{}"));
        if templates.is_empty() {
            templates.push("{c}".to_string());
        }
        Ok(ClassCaptions { names, templates })
    }

    /// The captions of a class; none if there is no such class.
    pub fn of(&self, class: usize) -> Vec<Vec<u8>> {
        let Some(name) = self.names.get(class) else { return Vec::new() };
        let prompt = |template: &String| template.replace("{c}", name).replace("{}", name).into_bytes();
        self.templates.iter().map(prompt).collect()
    }
}

/// The lines of a small file that are not blank; none where there is no file.
fn lines(path: &Path) -> Result<Vec<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(DataError::io("read", path)(e)),
    }
}
