//! Models as ONNX: a file for each tower, for onnxruntime and what is built on it.

mod graph;
mod layers;
mod towers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jest_kernels::Pass;

use crate::weights::replace;
use crate::{ModelError, Result, TwoTowers};
use graph::Graph;

/// Folder of the towers below that of the model, as transformers.js looks for it.
pub const ONNX_FOLDER: &str = "onnx";
/// The image tower: `pixel_values` to `image_embeds`.
pub const ONNX_VISION_FILE: &str = "vision_model.onnx";
/// The text tower: `input_ids` to `text_embeds`.
pub const ONNX_TEXT_FILE: &str = "text_model.onnx";
/// Most bytes of weights within a file: a message of protocol buffers ends at 2 GiB, and the graph is part of it.
const MOST_INSIDE: u64 = (1 << 31) - (1 << 26);

/// Writes both towers into a folder.
pub(crate) fn write(
    model: &TwoTowers,
    pass: &mut Pass,
    folder: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| {
        let path = folder.to_path_buf();
        ModelError::Io { action: "create", path, source }
    })?;
    let config = model.config();
    let mut told: Vec<(String, String)> = metadata.clone().into_iter().collect();
    told.push(("logit_scale".to_string(), pass.read(model.logit_scale.value())?[0].exp().to_string()));
    if config.has_logit_bias() {
        told.push(("logit_bias".to_string(), pass.read(model.logit_bias.value())?[0].to_string()));
    }
    let towers = [
        (ONNX_VISION_FILE, towers::vision(&model.vision, config)),
        (ONNX_TEXT_FILE, towers::text(&model.text, config)),
    ];
    for (file, graph) in towers {
        write_tower(&graph, pass, folder, file, &told, MOST_INSIDE)?;
    }
    Ok(())
}

/// Writes a graph; where its weights are more than `most_inside` bytes, they are in a second file, `FILE_data`.
fn write_tower(
    graph: &Graph<'_>,
    pass: &mut Pass,
    folder: &Path,
    file: &str,
    metadata: &[(String, String)],
    most_inside: u64,
) -> Result<()> {
    let data = format!("{file}_data");
    let outside = graph.weight() > most_inside;
    if outside {
        replace(&folder.join(&data), |out| graph.write_outside(pass, out))?;
    }
    replace(&folder.join(file), |out| graph.write(pass, out, metadata, outside.then_some(data.as_str())))
}

#[cfg(test)]
mod tests;
