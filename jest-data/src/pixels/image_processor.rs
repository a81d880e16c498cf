//! How a model's pictures are made, in the words of transformers (`preprocessor_config.json`) and of open_clip (`preprocess_cfg`).

use super::preprocess::{Preprocess, ResizeMode};
use super::resize::Interpolation;
use crate::{DataError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Transformers' file in a model's folder.
const FILE: &str = "preprocessor_config.json";
/// open_clip's.
const OPEN_CLIP_FILE: &str = "open_clip_config.json";
/// Pillow's numbers of the filters.
const FILTERS: [(u64, Interpolation); 2] = [(2, Interpolation::Bilinear), (3, Interpolation::Bicubic)];

/// `preprocess_cfg` of an `open_clip_config.json`; what is absent is as in open_clip.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct PreprocessCfg {
    mean: [f32; 3],
    std: [f32; 3],
    interpolation: Interpolation,
    resize_mode: ResizeMode,
}

impl Default for PreprocessCfg {
    fn default() -> PreprocessCfg {
        PreprocessCfg {
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            interpolation: Interpolation::Bicubic,
            resize_mode: ResizeMode::Shortest,
        }
    }
}

impl Preprocess {
    /// What the `preprocessor_config.json` in a model's folder says, else its `open_clip_config.json`; nothing if there is neither.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `ImageProcessor` if it says what is not done here.
    pub fn open(folder: &Path) -> Result<Option<Preprocess>> {
        type Reader = fn(&[u8]) -> std::result::Result<Preprocess, String>;
        for (name, read) in [(FILE, Preprocess::from_json as Reader), (OPEN_CLIP_FILE, Preprocess::from_open_clip)] {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let refused = |problem| DataError::ImageProcessor { path: path.clone(), problem };
                    return read(&bytes).map(Some).map_err(refused);
                }
                Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
                Err(other) => return Err(DataError::io("read", &path)(other)),
            }
        }
        Ok(None)
    }

    /// `preprocess_cfg` of an `open_clip_config.json`.
    pub fn to_open_clip(&self) -> Value {
        let Preprocess { mean, std, interpolation, resize_mode, .. } = *self;
        json!(PreprocessCfg { mean, std, interpolation, resize_mode })
    }

    /// Reads the text of an `open_clip_config.json`, whose size stands with the image tower.
    fn from_open_clip(bytes: &[u8]) -> std::result::Result<Preprocess, String> {
        let file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let size = file["model_cfg"]["vision_cfg"]["image_size"].as_u64().unwrap_or(224) as usize;
        let own = Some(&file["preprocess_cfg"]).filter(|own| !own.is_null());
        let own = own.map(PreprocessCfg::deserialize).transpose().map_err(|e| format!("preprocess_cfg: {e}"))?;
        let PreprocessCfg { mean, std, interpolation, resize_mode } = own.unwrap_or_default();
        Ok(Preprocess { size, mean, std, resize_mode, interpolation })
    }

    /// The text of a `preprocessor_config.json`: a `SiglipImageProcessor` that squashes, or a `CLIPImageProcessor` that takes the middle.
    /// `longest` has no word there and stands under the key `jest`.
    pub fn to_json(&self) -> String {
        let Preprocess { size, mean, std, .. } = self;
        // As decimal numbers: 0.48145466 and not the digits of its nearest f64.
        let decimals = |values: &[f32; 3]| values.map(|v| v.to_string().parse::<f64>().unwrap_or(f64::from(v)));
        let resample =
            FILTERS.iter().find(|(_, filter)| *filter == self.interpolation).map_or(3, |(number, _)| *number);
        let middle = self.resize_mode == ResizeMode::Shortest;
        let square = json!({ "height": size, "width": size });
        let mut file = json!({
            "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": decimals(mean), "image_std": decimals(std),
            "image_processor_type": if middle { "CLIPImageProcessor" } else { "SiglipImageProcessor" },
            "processor_class": if middle { "CLIPProcessor" } else { "SiglipProcessor" },
            "resample": resample, "rescale_factor": 1.0 / 255.0,
            "size": if middle { json!({ "shortest_edge": size }) } else { square.clone() },
        });
        if middle {
            file["do_center_crop"] = json!(true);
            file["crop_size"] = square;
        }
        if self.resize_mode == ResizeMode::Longest {
            file["jest"] = json!({ "resize_mode": "longest" });
        }
        format!("{file:#}\n")
    }

    /// Reads the text of a `preprocessor_config.json`, or says what in it is not done here.
    fn from_json(bytes: &[u8]) -> std::result::Result<Preprocess, String> {
        let file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let flag = |key: &str, default: bool| file[key].as_bool().unwrap_or(default);
        let square = |value: &Value| match (value.as_u64(), value["height"].as_u64(), value["width"].as_u64()) {
            (Some(side), _, _) => Some(side),
            (_, Some(height), Some(width)) if height == width => Some(height),
            _ => None,
        };
        if !flag("do_resize", true) || !flag("do_rescale", true) {
            return Err(
                "pictures are always resized and scaled to 0..1 here; set do_resize and do_rescale to true".into()
            );
        }
        if file["rescale_factor"].as_f64().is_some_and(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
            return Err(format!("rescale_factor {} is not 1/255", file["rescale_factor"]));
        }
        let resample = file["resample"].as_u64().unwrap_or(3);
        let interpolation = FILTERS.iter().find(|(number, _)| *number == resample).map(|(_, filter)| *filter);
        let interpolation =
            interpolation.ok_or_else(|| format!("resample {resample} is neither 2, bilinear, nor 3, bicubic"))?;
        let shortest = file["size"]["shortest_edge"].as_u64();
        let crop = flag("do_center_crop", false).then(|| square(&file["crop_size"])).flatten();
        let (size, resize_mode) = match (shortest, square(&file["size"]), crop) {
            (Some(short), _, Some(crop)) if short == crop => (short, ResizeMode::Shortest),
            // Old files give one number for both.
            (None, Some(side), Some(crop)) if side == crop && file["size"].is_u64() => (side, ResizeMode::Shortest),
            (None, Some(side), crop) if crop.is_none_or(|crop| crop == side) => (side, ResizeMode::Squash),
            _ => return Err(format!("size {} and crop_size {} make no square", file["size"], file["crop_size"])),
        };
        let longest = file["jest"]["resize_mode"] == "longest";
        let three = |key: &str, default: f32| -> std::result::Result<[f32; 3], String> {
            if !flag("do_normalize", true) || file[key].is_null() {
                return Ok([if flag("do_normalize", true) { 0.5 } else { default }; 3]);
            }
            serde_json::from_value(file[key].clone()).map_err(|e| format!("{key}: {e}"))
        };
        Ok(Preprocess {
            size: size as usize,
            mean: three("image_mean", 0.0)?,
            std: three("image_std", 1.0)?,
            resize_mode: if longest { ResizeMode::Longest } else { resize_mode },
            interpolation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: &str = r#"{"crop_size":{"height":224,"width":224},"do_center_crop":true,"do_normalize":true,"do_resize":true,
        "image_mean":[0.48145466,0.4578275,0.40821073],"image_std":[0.26862954,0.26130258,0.27577711],"resample":3,"size":{"shortest_edge":224}}"#;

    #[test]
    fn files_of_transformers_are_read() {
        let clip = Preprocess::from_json(CLIP.as_bytes()).unwrap();
        assert_eq!((clip.size, clip.resize_mode, clip.mean[0]), (224, ResizeMode::Shortest, 0.481_454_66));
        let old = r#"{"size":224,"crop_size":224,"do_center_crop":true,"do_resize":true,"resample":2}"#;
        let old = Preprocess::from_json(old.as_bytes()).unwrap();
        assert_eq!(
            (old.resize_mode, old.interpolation, old.std),
            (ResizeMode::Shortest, Interpolation::Bilinear, [0.5; 3])
        );
        let siglip =
            r#"{"size":{"height":32,"width":32},"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5],"resample":3}"#;
        assert_eq!(Preprocess::from_json(siglip.as_bytes()).unwrap(), Preprocess::siglip(32));
    }

    #[test]
    fn files_of_open_clip_are_read_and_written() {
        let read = |text: &str| Preprocess::from_open_clip(text.as_bytes());
        let clip = read(r#"{"model_cfg":{"vision_cfg":{"image_size":240}},"preprocess_cfg":{"mean":[0.1,0.2,0.3]}}"#);
        let clip = clip.unwrap();
        assert_eq!((clip.size, clip.mean, clip.std[2]), (240, [0.1, 0.2, 0.3], 0.275_777_1));
        assert_eq!((clip.resize_mode, clip.interpolation), (ResizeMode::Shortest, Interpolation::Bicubic));
        let written = json!({"model_cfg": {"vision_cfg": {"image_size": 32}},
            "preprocess_cfg": Preprocess::siglip(32).to_open_clip()});
        assert_eq!(read(&written.to_string()).unwrap(), Preprocess::siglip(32));
        let random = read(r#"{"preprocess_cfg":{"interpolation":"random"}}"#).unwrap_err();
        assert!(random.contains("preprocess_cfg: unknown variant `random`"), "{random}");
    }

    #[test]
    fn what_is_written_reads_back() {
        for resize_mode in [ResizeMode::Squash, ResizeMode::Shortest, ResizeMode::Longest] {
            for interpolation in [Interpolation::Bicubic, Interpolation::Bilinear] {
                let pre =
                    Preprocess { mean: [0.481_454_66, 0.1, 0.4], resize_mode, interpolation, ..Preprocess::siglip(48) };
                assert_eq!(Preprocess::from_json(pre.to_json().as_bytes()).unwrap(), pre);
            }
        }
        assert!(Preprocess::siglip(8).to_json().contains("\"resample\": 3"));
    }

    #[test]
    fn what_is_not_done_here_is_said() {
        for (text, word) in [
            ("", "EOF"),
            (r#"{"size":{"height":32,"width":33}}"#, "make no square"),
            (r#"{"size":{"shortest_edge":256},"do_center_crop":true,"crop_size":224}"#, "make no square"),
            (r#"{"size":224,"resample":1}"#, "resample 1"),
            (r#"{"size":224,"do_rescale":false}"#, "do_rescale"),
            (r#"{"size":224,"rescale_factor":1.0}"#, "1/255"),
            (r#"{"size":224,"image_mean":[0.5]}"#, "image_mean"),
        ] {
            let problem = Preprocess::from_json(text.as_bytes()).unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }
}
