//! Weight files: what is saved is read back, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jest_kernels::{Pass, testing};
use jest_model::{ModelError, Parameters, Preset, TensorFile, TwoTowers, WEIGHTS_FILE};

fn pass() -> Pass {
    testing::devices()[0].pass()
}

fn model(seed: u64) -> TwoTowers {
    TwoTowers::new(&mut pass(), &Preset::Mu.config(), seed).unwrap()
}

fn values(model: &TwoTowers) -> Vec<Vec<u32>> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    model.parameters().iter().map(|param| bits(pass().read(param.value()).unwrap())).collect()
}

fn bytes(model: &TwoTowers) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.write_weights(&mut pass(), &mut bytes, &BTreeMap::new()).unwrap();
    bytes
}

/// Header text and data of a file.
fn split(bytes: &[u8]) -> (String, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (String::from_utf8(bytes[8..8 + length].to_vec()).unwrap(), bytes[8 + length..].to_vec())
}

fn join(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_saved_model_is_read_back_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("export");
    let model = model(1);
    let metadata = BTreeMap::from([("step".to_string(), "7".to_string())]);
    model.save(&mut pass(), &folder, &metadata).unwrap();
    let loaded = TwoTowers::load(&mut pass(), &folder).unwrap();
    assert_eq!(values(&model), values(&loaded));
    assert_eq!(model.config(), loaded.config());
    assert_eq!(model.hash(&mut pass()).unwrap(), loaded.hash(&mut pass()).unwrap());
    assert_eq!(bytes(&model), bytes(&loaded));
    let file = TensorFile::open(&folder.join(WEIGHTS_FILE)).unwrap();
    assert_eq!(file.metadata()["step"], "7");
    assert_eq!(file.metadata()["format"], "pt");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing but the two files: {names:?}");
    let raw = fs::read(folder.join(WEIGHTS_FILE)).unwrap();
    assert_eq!(u64::from_le_bytes(raw[..8].try_into().unwrap()) % 8, 0, "data is aligned");
    safetensors::SafeTensors::deserialize(&raw).unwrap();
}

#[test]
fn every_device_has_the_same_model_from_the_same_seed() {
    let all = testing::devices().map(|device| {
        let pass = &mut device.pass();
        let model = TwoTowers::new(pass, &Preset::Mu.config(), 3).unwrap();
        model.hash(pass).unwrap()
    });
    assert_eq!(all[0], all[1]);
}

#[test]
fn the_hash_tells_models_apart() {
    let hash = |model: &TwoTowers| model.hash(&mut pass()).unwrap();
    assert_ne!(hash(&model(1)), hash(&model(2)));
    let mut config = Preset::Mu.config();
    config.text.pool = jest_model::TextPool::Eos;
    assert_ne!(hash(&model(1)), hash(&TwoTowers::new(&mut pass(), &config, 1).unwrap()));
    config = Preset::Mu.config();
    let mut other = TwoTowers::new(&mut pass(), &config, 1).unwrap();
    let bias = &mut other.parameters_mut()[1];
    bias.set(pass().upload(&[-9.0], &[1]).unwrap());
    assert_ne!(hash(&model(1)), hash(&other));
}

#[test]
fn parameters_are_counted_and_start_as_big_vision_draws_them() {
    let (model, config) = (model(1), Preset::Mu.config());
    let count: usize = model.parameters().iter().map(|param| param.value().len()).sum();
    assert_eq!(count as u64, config.parameter_count());
    for param in model.parameters() {
        let values = pass().read(param.value()).unwrap();
        let n = values.len() as f32;
        let std = (values.iter().map(|value| value * value).sum::<f32>() / n).sqrt();
        let name = param.name();
        let want = match name {
            "logit_scale" => 10f32.ln(),
            "logit_bias" => 10.0,
            _ if name.contains("norm") && name.ends_with("weight") => 1.0,
            _ if name.ends_with("bias") => 0.0,
            _ if name.contains("patch_embedding") => (1.0 / 192f32).sqrt(),
            _ if name.contains("embedding") || name.contains("text_model.head") => 0.125,
            _ if name.ends_with("probe") => (2.0 / 65f32).sqrt(),
            _ if name.contains("fc") => (2.0 / 320f32).sqrt(),
            _ => (2.0 / 128f32).sqrt(),
        };
        let slack = if name.ends_with("probe") { 0.3 } else { 0.06 };
        assert!((std - want).abs() <= slack * want, "{name}: {std}, expected {want}");
        assert_eq!(
            param.is_kernel(),
            param.ndim() > 1 && !name.contains("_embedding.weight") && !name.ends_with("probe")
                || name.contains("patch_embedding.weight"),
            "{name}"
        );
    }
}

#[test]
fn qkv_is_one_parameter_of_three_independent_parts() {
    let model = model(1);
    let qkv = model.parameters().into_iter().find(|param| param.name().ends_with("0.self_attn.qkv_proj.weight"));
    let qkv = qkv.unwrap();
    assert_eq!((qkv.value().shape(), qkv.ndim()), (&[192, 64][..], 2));
    let values = pass().read(qkv.value()).unwrap();
    assert_ne!(values[..4096], values[4096..8192]);
    let bound = (6.0 / 128f32).sqrt();
    assert!(values.iter().all(|value| value.abs() <= bound) && values.iter().any(|value| value.abs() > 0.99 * bound));
}

/// Writes `bytes`, expects reading to fail and to leave the model alone; gives the message.
fn refusal(bytes: &[u8]) -> (ModelError, String) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("hostile.safetensors");
    fs::write(&path, bytes).unwrap();
    let mut target = model(2);
    let before = values(&target);
    let error = target.read_weights(&mut pass(), &path).unwrap_err();
    assert_eq!(values(&target), before, "nothing is partly loaded");
    let said = error.to_string();
    assert!(said.contains("hostile.safetensors"), "{said}");
    (error, said)
}

#[test]
fn damaged_files_are_refused() {
    let good = bytes(&model(1));
    let (header, data) = split(&good);
    for cut in [0, 3, 8, 100, good.len() - 1] {
        assert!(matches!(refusal(&good[..cut]).0, ModelError::FileLength { .. }), "cut to {cut}");
    }
    assert!(matches!(refusal(&[&good[..], b"more"].concat()).0, ModelError::FileLength { .. }));
    let mut huge = good.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(refusal(&huge).0, ModelError::HeaderLength { got: u64::MAX, .. }));
    assert!(matches!(refusal(&join(&header.replacen('{', "[", 1), &data)).0, ModelError::Json { .. }));
    let deep = "[".repeat(100_000);
    assert!(matches!(refusal(&join(&deep, &data)).0, ModelError::Json { .. }));
    let overlap = header.replacen("\"data_offsets\":[4,8]", "\"data_offsets\":[0,4]", 1);
    assert!(matches!(refusal(&join(&overlap, &data)).0, ModelError::Json { .. }));
    let overflow = header.replacen("\"shape\":[1]", "\"shape\":[9223372036854775807,4]", 1);
    assert!(matches!(refusal(&join(&overflow, &data)).0, ModelError::Json { .. }));
}

#[test]
fn files_of_another_model_are_refused_with_all_differences() {
    let good = bytes(&model(1));
    let (header, data) = split(&good);
    let renamed = header.replace("\"logit_bias\"", "\"logit_bjas\"");
    let said = refusal(&join(&renamed, &data)).1;
    assert!(said.contains("logit_bias: expected [1], missing"), "{said}");
    assert!(said.contains("logit_bjas: found [1], not expected"), "{said}");
    let reshaped = header.replacen("\"shape\":[512,64]", "\"shape\":[64,512]", 1);
    let said = refusal(&join(&reshaped, &data)).1;
    assert!(said.contains("token_embedding.weight: expected [512, 64], found [64, 512]"), "{said}");
    let integers = header.replacen("\"dtype\":\"F32\"", "\"dtype\":\"I32\"", 1);
    let said = refusal(&join(&integers, &data)).1;
    assert!(said.contains("logit_scale: expected F32, found I32"), "{said}");
    let mut config = Preset::Mu.config();
    config.vision.depth = 3;
    let deeper = TwoTowers::new(&mut pass(), &config, 1).unwrap();
    let said = refusal(&bytes(&deeper)).1;
    assert!(said.contains("vision_model.encoder.layers.2") && said.contains("and 4 more"), "{said}");
}

#[test]
fn duplicate_names_are_refused() {
    let (header, data) = split(&bytes(&model(1)));
    let twice = header.replacen("\"logit_bias\"", "\"logit_scale\"", 1);
    let (error, said) = refusal(&join(&twice, &data));
    assert!(matches!(error, ModelError::DuplicateTensor { .. }) && said.contains("\"logit_scale\" twice"), "{said}");
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let (header, mut data) = split(&bytes(&model(1)));
    let last = data.len() - 4;
    for value in [f32::NAN, f32::INFINITY] {
        data[last..].copy_from_slice(&value.to_le_bytes());
        let (error, said) = refusal(&join(&header, &data));
        assert!(matches!(error, ModelError::NotFinite { index: 63, .. }), "{said}");
    }
}

#[test]
fn position_ids_of_old_files_are_ignored() {
    let source = model(1);
    let (header, mut data) = split(&bytes(&source));
    let (start, end) = (data.len(), data.len() + 16);
    let name = "text_model.embeddings.position_ids";
    let entry = format!(",\"{name}\":{{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[{start},{end}]}}}}");
    data.extend([0; 16]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    fs::write(&path, join(&(header.trim_end().strip_suffix('}').unwrap().to_string() + &entry), &data)).unwrap();
    let mut target = model(2);
    target.read_weights(&mut pass(), &path).unwrap();
    assert_eq!(values(&target), values(&source));
}

/// The weights of a folder as two files with an index, which `change` may alter.
fn sharded(folder: &Path, change: impl Fn(String) -> String) -> Result<TwoTowers, ModelError> {
    model(1).save(&mut pass(), folder, &BTreeMap::new()).unwrap();
    let whole = fs::read(folder.join(WEIGHTS_FILE)).unwrap();
    fs::remove_file(folder.join(WEIGHTS_FILE)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let (mut map, mut shards) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
    for (index, (name, tensor)) in tensors.tensors().into_iter().enumerate() {
        map.insert(name.clone(), format!("part-{}.safetensors", index % 2));
        shards[index % 2].push((name, tensor));
    }
    for (index, shard) in shards.into_iter().enumerate() {
        let path = folder.join(format!("part-{index}.safetensors"));
        fs::write(path, safetensors::serialize(shard, None).unwrap()).unwrap();
    }
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    fs::write(folder.join("model.safetensors.index.json"), change(index)).unwrap();
    TwoTowers::load(&mut pass(), folder)
}

#[test]
fn a_model_in_several_files_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = sharded(folder.path(), |index| index).unwrap();
    assert_eq!(values(&loaded), values(&model(1)));
    for (from, to, says) in [
        ("part-1.safetensors", "../part-1.safetensors", "a shard is a .safetensors file beside it"),
        ("part-1.safetensors", "part-1.bin", "a shard is a .safetensors file beside it"),
        ("part-1.safetensors", "part-2.safetensors", "cannot read"),
        ("\"logit_bias\"", "\"logit_bjas\"", "does not say that logit_bias is in part-"),
        ("{\"logit_bias\"", "{\"another\":\"part-0.safetensors\",\"logit_bias\"", "which does not hold it"),
        ("\"weight_map\"", "\"map\"", "is not valid"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let said = sharded(folder.path(), |index| index.replace(from, to)).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn half_precision_is_read_exactly() {
    let source = model(1);
    let (header, data) = split(&bytes(&source));
    let folder = tempfile::tempdir().unwrap();
    for (dtype, narrow) in [("F16", true), ("BF16", false)] {
        let narrowed = |word: &[u8; 4]| {
            let value = f32::from_le_bytes(*word);
            if narrow { half::f16::from_f32(value).to_le_bytes() } else { half::bf16::from_f32(value).to_le_bytes() }
        };
        let short: Vec<u8> = data.as_chunks::<4>().0.iter().flat_map(narrowed).collect();
        let mut json: serde_json::Value = serde_json::from_str(&header).unwrap();
        for (_, info) in json.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__") {
            info["dtype"] = dtype.into();
            for end in 0..2 {
                info["data_offsets"][end] = (info["data_offsets"][end].as_u64().unwrap() / 2).into();
            }
        }
        let path = folder.path().join("short.safetensors");
        fs::write(&path, join(&json.to_string(), &short)).unwrap();
        let mut target = model(2);
        target.read_weights(&mut pass(), &path).unwrap();
        let wide = |bits: &u32| {
            let value = f32::from_bits(*bits);
            if narrow { half::f16::from_f32(value).to_f32() } else { half::bf16::from_f32(value).to_f32() }.to_bits()
        };
        let wanted: Vec<Vec<u32>> = values(&source).iter().map(|values| values.iter().map(wide).collect()).collect();
        assert_eq!(values(&target), wanted, "{dtype}");
    }
}

#[test]
fn a_configuration_larger_than_its_weights_is_refused_before_memory_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    model(1).save(&mut pass(), folder.path(), &BTreeMap::new()).unwrap();
    let path = folder.path().join("config.json");
    let json = fs::read_to_string(&path).unwrap();
    fs::write(&path, json.replace("\"vocab_size\": 512", "\"vocab_size\": 4000000")).unwrap();
    let error = TwoTowers::load(&mut pass(), folder.path()).unwrap_err();
    assert!(matches!(error, ModelError::FileLength { .. }), "{error}");
    let absent = TwoTowers::load(&mut pass(), Path::new("no/such/folder")).unwrap_err();
    assert!(absent.to_string().starts_with("cannot read no/such/folder"), "{absent}");
}
