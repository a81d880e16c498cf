//! A model's files: `config.json` and `model.safetensors`, in the layout of Hugging Face.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use jest_kernels::{Pass, Tensor};

use crate::config::ModelConfig;
use crate::layout::Layout;
use crate::param::Param;
use crate::source::{TensorSource, open_weights};
use crate::stored::{Stored, stored};
use crate::tensor_file::{self, TensorFile};
use crate::{ModelError, Parameters, Result, TwoTowers};

/// Name of the configuration in a model's folder.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the weights in a model's folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the list of files of a model that is in several.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Longest `config.json` that is read.
pub(crate) const MAX_CONFIG_BYTES: u64 = 1 << 20;

impl ModelConfig {
    /// Reads the configuration in a model's folder.
    ///
    /// # Errors
    /// `Io`; `HeaderLength` when it is too long to be one; as [`ModelConfig::from_hf_json`].
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        Self::from_hf_json(&read_text(&path, MAX_CONFIG_BYTES)?, &path)
    }
}

/// A text of limited length.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String> {
    let got = fs::metadata(path).map_err(io("read", path))?.len();
    if got > limit {
        return Err(ModelError::HeaderLength { path: path.to_path_buf(), got, limit });
    }
    fs::read_to_string(path).map_err(io("read", path))
}

/// A tensor on the host under the name that a weight file gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name in the file.
    pub name: String,
    /// Sizes, slowest axis first.
    pub shape: Vec<usize>,
    /// Elements, row by row.
    pub values: Vec<f32>,
}

impl TwoTowers {
    /// Writes all parameters as a safetensors file; `metadata` goes into its header.
    ///
    /// # Errors
    /// `Io` when `out` refuses; `Kernel` when the device fails.
    pub fn write_weights(
        &self,
        pass: &mut Pass,
        out: &mut dyn Write,
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        self.write_layout(pass, out, Layout::HuggingFace, metadata)
    }

    pub(crate) fn write_layout(
        &self,
        pass: &mut Pass,
        out: &mut dyn Write,
        layout: Layout,
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        let params = self.parameters();
        let all = stored(&params, |param| layout.parts(param, self.config()));
        let tensors: Vec<_> = all.iter().map(|stored| (stored.name.clone(), stored.shape.clone())).collect();
        let path = Path::new(WEIGHTS_FILE);
        tensor_file::write(out, path, metadata, &tensors, |index| gather(pass, &params, &all[index], |p| p.value()))
    }

    /// Replaces all parameters by those of a safetensors file. The file is not trusted: its header, names, shapes and
    /// types are checked and every weight must be finite. On an error the model is as it was before.
    ///
    /// # Errors
    /// `Mismatch` with all differences; otherwise as [`TensorFile::open`] and [`TensorFile::read_f32`].
    pub fn read_weights(&mut self, pass: &mut Pass, path: &Path) -> Result<()> {
        self.read_source(pass, &mut TensorFile::open(path)?, Layout::HuggingFace)
    }

    pub(crate) fn read_source(&mut self, pass: &mut Pass, source: &mut dyn TensorSource, layout: Layout) -> Result<()> {
        let params = self.parameters();
        let all = stored(&params, |param| layout.parts(param, self.config()));
        let expected: Vec<_> = all.iter().map(|stored| (stored.name.as_str(), stored.shape.as_slice())).collect();
        let mut differences = source.differences(&expected);
        differences.0.retain(|difference| layout.ignored(difference.name(), self.config()).is_none());
        if !differences.is_empty() {
            return Err(ModelError::Mismatch { path: source.path().to_path_buf(), differences });
        }
        let values: Vec<_> = read(source, &params, &all)?.into_iter().map(Some).collect();
        self.upload(pass, &values)
    }

    /// Replaces the parameters for which there are values.
    pub(crate) fn upload(&mut self, pass: &mut Pass, values: &[Option<Vec<f32>>]) -> Result<()> {
        let of = |(param, values): (&Param, &Option<Vec<f32>>)| match values {
            Some(values) => Ok(pass.upload(values, param.value().shape())?),
            None => Ok(param.value().clone()),
        };
        let tensors = self.parameters().into_iter().zip(values).map(of).collect::<Result<Vec<Tensor>>>()?;
        for (param, tensor) in self.parameters_mut().into_iter().zip(tensors) {
            param.set(tensor);
        }
        Ok(())
    }

    /// Writes `config.json` and `model.safetensors` into a folder, which is made if it is absent. Each file is written
    /// beside its place and renamed.
    ///
    /// # Errors
    /// `Io` when the folder refuses; `Kernel` when the device fails.
    pub fn save(&self, pass: &mut Pass, folder: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        replace(&folder.join(WEIGHTS_FILE), |out| self.write_weights(pass, out, metadata))?;
        let path = folder.join(CONFIG_FILE);
        let json = self.config().to_hf_json();
        replace(&path, |out| out.write_all(json.as_bytes()).map_err(io("write", &path)))
    }

    /// Reads the model in a folder, as [`TwoTowers::save`] or Hugging Face's libraries write it.
    ///
    /// # Errors
    /// As [`ModelConfig::open`] and [`TwoTowers::read_weights`].
    pub fn load(pass: &mut Pass, folder: &Path) -> Result<Self> {
        let config = ModelConfig::open(folder)?;
        // Before memory is asked for: a configuration may claim any size, a file that is there has one.
        let mut source = open_weights(folder)?;
        hold_enough(source.as_ref(), config.parameter_count())?;
        let mut model = Self::zeros(pass, &config)?;
        model.read_source(pass, source.as_mut(), Layout::HuggingFace)?;
        Ok(model)
    }

    /// Name of what the model computes: a BLAKE3 hash, in hex, of its choices and of the name, shape and bytes of every
    /// tensor of its weight file. Equal on every device.
    ///
    /// # Errors
    /// `Kernel` when the device fails.
    pub fn hash(&self, pass: &mut Pass) -> Result<String> {
        let choices = ModelConfig { init_logit_scale: 1.0, init_logit_bias: 0.0, ..self.config().clone() };
        let mut hasher = blake3::Hasher::new();
        hasher.update(choices.to_hf_json().as_bytes());
        let params = self.parameters();
        for stored in stored(&params, |param| Layout::HuggingFace.parts(param, self.config())) {
            hasher.update(format!("\n{} {:?}\n", stored.name, stored.shape).as_bytes());
            let values = gather(pass, &params, &stored, |param| param.value())?;
            hasher.update(&tensor_file::little_endian(&values));
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The gradients on the host, as a weight file would hold them.
    ///
    /// # Errors
    /// `Kernel` when the device fails.
    pub fn gradients(&self, pass: &mut Pass) -> Result<Vec<NamedTensor>> {
        let params = self.parameters();
        let read = |stored: Stored| {
            let values = gather(pass, &params, &stored, |param| &param.grad)?;
            Ok(NamedTensor { name: stored.name, shape: stored.shape, values })
        };
        let all = stored(&params, |param| Layout::HuggingFace.parts(param, self.config()));
        all.into_iter().map(read).collect()
    }
}

/// Elements of one tensor of a weight file.
fn gather(pass: &mut Pass, params: &[&Param], stored: &Stored, of: impl Fn(&Param) -> &Tensor) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(stored.shape.iter().product());
    for piece in &stored.pieces {
        let values = pass.read(of(params[piece.param]))?;
        all.extend(piece.order.to_file(&values[piece.elements.clone()]));
    }
    Ok(all)
}

/// The elements of each parameter, of one that is in no tensor 0.
pub(crate) fn read(source: &mut dyn TensorSource, params: &[&Param], all: &[Stored]) -> Result<Vec<Vec<f32>>> {
    let mut host: Vec<Vec<f32>> = params.iter().map(|param| vec![0.0; param.value().len()]).collect();
    for stored in all {
        let values = source.read_f32(&stored.name, &stored.shape)?;
        let mut rest = values.as_slice();
        for piece in &stored.pieces {
            let (now, later) = rest.split_at(piece.elements.len());
            piece.order.to_param(now, &mut host[piece.param][piece.elements.clone()]);
            rest = later;
        }
    }
    Ok(host)
}

/// Refuses a configuration that claims more than there is, before memory is asked for.
pub(crate) fn hold_enough(source: &dyn TensorSource, parameters: u64) -> Result<()> {
    let found: u64 = source.entries().iter().map(|entry| entry.shape.iter().product::<usize>() as u64).sum();
    if found >= parameters {
        return Ok(());
    }
    let (path, expected, found) = (source.path().to_path_buf(), 4 * parameters, 4 * found);
    Err(ModelError::FileLength { path, expected, found })
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> ModelError + use<'a> {
    move |source| ModelError::Io { action, path: path.to_path_buf(), source }
}

/// Writes a file beside `path`, then renames it: `path` is never half a file.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let beside = path.with_extension("partial");
    let file = File::create(&beside).map_err(io("create", &beside))?;
    let mut out = BufWriter::new(file);
    write(&mut out).map_err(|error| match error {
        // What writes into any stream knows no folder.
        ModelError::Io { action, source, .. } => io(action, path)(source),
        other => other,
    })?;
    let file = out.into_inner().map_err(|error| io("write", &beside)(error.into_error()))?;
    file.sync_all().map_err(io("write", &beside))?;
    fs::rename(&beside, path).map_err(io("rename", path))
}
