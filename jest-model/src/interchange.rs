//! Models in the files of other libraries: reading with a report of every tensor, and writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use jest_kernels::Pass;
use serde_json::Value;

use crate::config::{Family, ModelConfig, TextPadding, TextPool};
use crate::layout::big_vision_config;
use crate::npz::Npz;
use crate::resize::{NewSizes, Resizing};
use crate::source::{Elements, TensorSource, open_weights};
use crate::stored::{Stored, stored};
use crate::towers::Tower;
use crate::weights::{CONFIG_FILE, MAX_CONFIG_BYTES, WEIGHTS_FILE, hold_enough, read, read_text, replace};
use crate::{
    Difference, Differences, Layout, ModelError, ONNX_FOLDER, Param, Parameters, Result, TensorFile, TwoTowers, onnx,
};

/// Name of open_clip's configuration in a folder.
pub const OPEN_CLIP_CONFIG_FILE: &str = "open_clip_config.json";
/// Name of open_clip's weights in a folder.
pub const OPEN_CLIP_WEIGHTS_FILE: &str = "open_clip_model.safetensors";

/// Whose files are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format<'a> {
    /// Hugging Face's transformers.
    HuggingFace,
    /// open_clip.
    OpenClip {
        /// How pictures are made ready, as `preprocess_cfg` of its configuration.
        preprocess_cfg: &'a Value,
    },
    /// ONNX, a file for each tower, in Hugging Face's folder without its weights.
    Onnx,
}

/// What became of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It holds these parameters, or parts of them.
    Mapped(Vec<String>),
    /// It holds this parameter at another size; how it gets to the model's.
    Resized(String, String),
    /// A parameter that no file holds: drawn from the seed.
    Drawn,
    /// It is not needed, for this reason.
    Ignored(&'static str),
    /// It does not fit.
    Wrong(Difference),
}

/// Every tensor of a file, and those that it lacks, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub BTreeMap<String, Fate>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, fate) in &self.0 {
            match fate {
                Fate::Mapped(to) => writeln!(f, "mapped  {name} -> {}", to.join(", "))?,
                Fate::Resized(to, how) => writeln!(f, "resized {name} -> {to}: {how}")?,
                Fate::Drawn => writeln!(f, "drawn   {name}")?,
                Fate::Ignored(why) => writeln!(f, "ignored {name}: {why}")?,
                Fate::Wrong(difference) => writeln!(f, "wrong   {difference}")?,
            }
        }
        let count = |is: fn(&Fate) -> bool| self.0.values().filter(|fate| is(fate)).count();
        let resized = count(|fate| matches!(fate, Fate::Resized(..)));
        let mapped = count(|fate| matches!(fate, Fate::Mapped(_))) + resized;
        let (ignored, wrong) =
            (count(|fate| matches!(fate, Fate::Ignored(_))), count(|fate| matches!(fate, Fate::Wrong(_))));
        write!(f, "{mapped} tensors mapped")?;
        if resized > 0 {
            write!(f, " ({resized} of them resized)")?;
        }
        let drawn = count(|fate| matches!(fate, Fate::Drawn));
        if drawn > 0 {
            write!(f, ", {drawn} parameters drawn")?;
        }
        write!(f, ", {ignored} ignored, {wrong} wrong")
    }
}

impl Report {
    /// What was resized, a line each.
    pub fn resized(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(name, fate)| match fate {
            Fate::Resized(_, how) => Some(format!("{name}: {how}")),
            _ => None,
        })
    }
}

/// A model in files of another library, or its towers in several, opened and not yet read.
#[derive(Debug)]
pub struct Import {
    /// As stored.
    stored: ModelConfig,
    /// As it will be read.
    config: ModelConfig,
    resizing: Resizing,
    pub(crate) parts: Vec<Part>,
    /// Seed of the parameters that no part holds, where there may be such.
    seed: Option<u64>,
}

impl Import {
    /// Opens a folder of Hugging Face's or open_clip's, or a `.npz` file of big_vision's.
    ///
    /// # Errors
    /// `Io` when there is none; what is wrong with a configuration or with the sizes that a file claims.
    pub fn open(path: &Path) -> Result<Self> {
        let whole = |config, layout, source| Self::of(config, vec![Part::new(layout, source)], None);
        if path.extension().is_some_and(|ending| ending == "npz") {
            let source: Box<dyn TensorSource> = Box::new(Npz::open(path)?);
            let (config, layout) = big_vision_config(source.as_ref())?;
            return Ok(whole(config, layout, source));
        }
        let open_clip = path.join(OPEN_CLIP_CONFIG_FILE);
        if path.join(CONFIG_FILE).exists() || !open_clip.exists() {
            return Ok(whole(ModelConfig::open(path)?, Layout::HuggingFace, open_weights(path)?));
        }
        let (config, layout) = ModelConfig::from_open_clip_json(&read_text(&open_clip, MAX_CONFIG_BYTES)?, &open_clip)?;
        let own = path.join(OPEN_CLIP_WEIGHTS_FILE);
        let file = if own.exists() { own } else { path.join(WEIGHTS_FILE) };
        Ok(whole(config, layout, Box::new(TensorFile::open(&file)?)))
    }

    pub(crate) fn of(config: ModelConfig, parts: Vec<Part>, seed: Option<u64>) -> Self {
        Self { stored: config.clone(), config, resizing: Resizing::default(), parts, seed }
    }

    /// Sizes and choices of the model that will be read.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Has the model read at other sizes than it is stored at.
    ///
    /// # Errors
    /// As [`ModelConfig::resized`].
    pub fn resize(&mut self, sizes: &NewSizes, how: Resizing) -> Result<()> {
        self.config = self.stored.resized(sizes, &how)?;
        self.resizing = how;
        Ok(())
    }

    /// Reads the model; `report` says what became of every tensor, also where the model cannot be read.
    ///
    /// # Errors
    /// `FileLength` when the configuration claims more than there is; `Mismatch` with all differences; `NotFinite`; `Io`.
    pub fn read(&mut self, pass: &mut Pass, report: &mut Report) -> Result<TwoTowers> {
        for part in &self.parts {
            part.hold_enough(&self.stored)?;
        }
        let stored = TwoTowers::zeros(pass, &self.stored)?;
        let params = stored.parameters();
        let mut values: Vec<Option<Vec<f32>>> = params.iter().map(|_| None).collect();
        for part in &self.parts {
            part.report(&params, &self.stored, report, |name| self.resizing.describe(name, &self.stored, &self.config));
        }
        for part in &mut self.parts {
            part.read(&params, &self.stored, &mut values)?;
        }
        for (param, values) in params.iter().zip(&mut values) {
            if let Some(own) = values.take() {
                *values = Some(self.resizing.apply(param.name(), own, &self.stored, &self.config)?);
            } else {
                report.0.insert(param.name().to_string(), Fate::Drawn);
            }
        }
        let mut model = match self.seed {
            Some(seed) => TwoTowers::new(pass, &self.config, seed)?,
            None if self.config != self.stored => TwoTowers::zeros(pass, &self.config)?,
            None => stored,
        };
        model.upload(pass, &values)?;
        Ok(model)
    }
}

/// What is read from one source.
#[derive(Debug)]
pub(crate) struct Part {
    layout: Layout,
    source: Box<dyn TensorSource>,
    /// The only tower that is wanted.
    tower: Option<Tower>,
}

impl Part {
    pub(crate) fn new(layout: Layout, source: Box<dyn TensorSource>) -> Self {
        Self { layout, source, tower: None }
    }

    /// One tower of it.
    pub(crate) fn of(self, tower: Tower) -> Self {
        Self { tower: Some(tower), ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    /// Refuses a configuration that claims more than there is, before memory is asked for.
    fn hold_enough(&self, config: &ModelConfig) -> Result<()> {
        // A tower on its own may come without its projection.
        let projection =
            |width| if config.family == Family::Siglip { 0 } else { (width * config.embedding_dim()) as u64 };
        let parameters = match self.tower {
            None => config.parameter_count(),
            Some(Tower::Image) => config.image_parameters().saturating_sub(projection(config.vision.width)),
            Some(Tower::Text) => config.text_parameters().saturating_sub(projection(config.text.width)),
        };
        hold_enough(self.source.as_ref(), parameters)
    }

    /// Tensors of parameters that are wanted, and of those that are not.
    fn tensors(&self, params: &[&Param], config: &ModelConfig) -> [Vec<Stored>; 2] {
        let entries = self.source.entries();
        let alone = matches!(self.layout, Layout::HuggingFaceTower { .. });
        let there = |name: &str| entries.iter().any(|entry| entry.name == name);
        let wanted = |param: &Param| {
            let projection = alone && param.name().ends_with("_projection.weight");
            self.tower.is_none_or(|tower| tower.has(param)) && (!projection || there(param.name()))
        };
        let of = |keep: bool| {
            stored(params, |param| if wanted(param) == keep { self.layout.parts(param, config) } else { Vec::new() })
        };
        [of(true), if alone { Vec::new() } else { of(false) }]
    }

    fn differences(&self, [wanted, others]: &[Vec<Stored>; 2], config: &ModelConfig) -> Differences {
        let expected: Vec<_> = wanted.iter().map(|stored| (stored.name.as_str(), stored.shape.as_slice())).collect();
        let mut all = self.source.differences(&expected);
        let known: BTreeSet<&str> = others.iter().map(|stored| stored.name.as_str()).collect();
        let other = |found: &Difference| match found {
            Difference::Unexpected { name, .. } => {
                known.contains(name.as_str()) || self.layout.ignored(name, config).is_some()
            }
            _ => false,
        };
        all.0.retain(|difference| !other(difference));
        all
    }

    /// Fills in the elements of the parameters that it holds.
    fn read(&mut self, params: &[&Param], config: &ModelConfig, values: &mut [Option<Vec<f32>>]) -> Result<()> {
        let tensors = self.tensors(params, config);
        let differences = self.differences(&tensors, config);
        if !differences.is_empty() {
            return Err(ModelError::Mismatch { path: self.source.path().to_path_buf(), differences });
        }
        let [wanted, _] = tensors;
        let mut all = read(self.source.as_mut(), params, &wanted)?;
        for piece in wanted.iter().flat_map(|stored| &stored.pieces) {
            let read = std::mem::take(&mut all[piece.param]);
            values[piece.param].get_or_insert(read);
        }
        Ok(())
    }

    fn report(
        &self,
        params: &[&Param],
        config: &ModelConfig,
        report: &mut Report,
        how: impl Fn(&str) -> Option<String>,
    ) {
        let tensors = self.tensors(params, config);
        for difference in self.differences(&tensors, config).0 {
            report.0.insert(difference.name().to_string(), Fate::Wrong(difference));
        }
        for entry in self.source.entries() {
            let unread = self.layout.ignored(&entry.name, config);
            let why = if let Elements::Ignored(why) = entry.elements { Some(why) } else { unread };
            if let Some(why) = why {
                report.0.entry(entry.name).or_insert(Fate::Ignored(why));
            }
        }
        let [wanted, others] = &tensors;
        for stored in wanted {
            let names: BTreeSet<&str> = stored.pieces.iter().map(|piece| params[piece.param].name()).collect();
            let resized = names.iter().find_map(|name| Some(Fate::Resized((*name).to_string(), how(name)?)));
            let mapped = || Fate::Mapped(names.iter().map(|name| (*name).to_string()).collect());
            let name = match report.0.get(&stored.name) {
                Some(Fate::Wrong(_)) => continue,
                // Towers of two files may name their tensors alike.
                Some(Fate::Mapped(_) | Fate::Resized(..)) => {
                    format!("{} ({})", stored.name, names.first().copied().unwrap_or_default())
                }
                _ => stored.name.clone(),
            };
            report.0.insert(name, resized.unwrap_or_else(mapped));
        }
        for stored in others {
            report.0.entry(stored.name.clone()).or_insert(Fate::Ignored("of what is not read from this file"));
        }
    }
}

impl ModelConfig {
    /// Refuses what other libraries' SigLIP does not compute.
    pub(crate) fn siglip_can_be_exported(&self, format: &'static str) -> Result<()> {
        if self.text.padding == TextPadding::Attended && self.text.pool == TextPool::Last {
            return Ok(());
        }
        let why = "text.padding is masked or text.pool is eos; SigLIP attends to padding and reads the last position";
        Err(ModelError::NotExportable { format, why: why.to_string() })
    }

    /// Refuses what transformers computes otherwise.
    pub(crate) fn can_be_hugging_face(&self) -> Result<()> {
        match self.family {
            Family::Siglip => self.siglip_can_be_exported("hf"),
            // The library takes this id for that of old files, which it does not trust.
            Family::Clip if self.text.eos_id == 2 => {
                let why = "the end mark has id 2, for which CLIPModel reads a text at its largest id instead";
                Err(ModelError::NotExportable { format: "hf", why: why.to_string() })
            }
            Family::Clip => Ok(()),
            Family::Dual => self.dual_can_be_hugging_face(),
        }
    }

    /// `VisionTextDualEncoderModel` has no bias, and takes what BERT's pooler gives.
    fn dual_can_be_hugging_face(&self) -> Result<()> {
        let why = if self.text.pool != TextPool::Pooler {
            "its texts are means of tokens, for which VisionTextDualEncoderModel takes BERT's pooler"
        } else if self.has_logit_bias() {
            "it has a logit_bias, which VisionTextDualEncoderModel has not"
        } else {
            return Ok(());
        };
        Err(ModelError::NotExportable { format: "hf", why: format!("{why}; --format onnx writes both towers") })
    }
}

impl TwoTowers {
    /// Writes the model into a folder as another library reads it: its configuration and its weights, each beside its place
    /// and renamed.
    ///
    /// # Errors
    /// `NotExportable` for a model that the library cannot compute; `Io` when the folder refuses; `Kernel`.
    pub fn export(
        &self,
        pass: &mut Pass,
        folder: &Path,
        format: Format<'_>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        let config = self.config();
        let (layout, weights, name, text) = match format {
            Format::HuggingFace => {
                config.can_be_hugging_face()?;
                (Some(Layout::HuggingFace), WEIGHTS_FILE, CONFIG_FILE, config.to_hf_json())
            }
            Format::OpenClip { preprocess_cfg } => {
                let text = config.to_open_clip_json(preprocess_cfg)?;
                let layout = Layout::OpenClip { custom_text: config.family == Family::Siglip };
                (Some(layout), OPEN_CLIP_WEIGHTS_FILE, OPEN_CLIP_CONFIG_FILE, text)
            }
            Format::Onnx => (None, ONNX_FOLDER, CONFIG_FILE, config.to_hf_json()),
        };
        fs::create_dir_all(folder).map_err(|source| {
            let path = folder.to_path_buf();
            ModelError::Io { action: "create", path, source }
        })?;
        match layout {
            Some(layout) => replace(&folder.join(weights), |out| self.write_layout(pass, out, layout, metadata))?,
            None => onnx::write(self, pass, &folder.join(weights), metadata)?,
        }
        let path = folder.join(name);
        let io = |source| ModelError::Io { action: "write", path: path.clone(), source };
        replace(&path, |out: &mut dyn Write| out.write_all(text.as_bytes()).map_err(io))
    }
}
