//! What was written, read back: a graph that is whole, with every parameter in it, in bytes that onnxruntime agreed with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jest_kernels::{Device, DeviceOptions, DeviceRequest};

use super::*;
use crate::config::{Activation, ModelConfig, TextPadding, TextPool};
use crate::{Parameters, Preset};

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than ten bytes");
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(n);
    *bytes = rest;
    taken
}

/// The fields of a message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            2 => {
                let n = varint(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, n))
            }
            5 => Value::Bytes(take(&mut bytes, 4)),
            kind => panic!("kind {kind}"),
        };
        all.push((key >> 3, value));
    }
    all
}

fn bytes(message: &[u8], field: u64) -> Vec<&[u8]> {
    let of = |(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

fn numbers(message: &[u8], field: u64) -> Vec<u64> {
    let of = |(number, value)| match value {
        Value::Number(value) if number == field => Some(value),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

fn texts(message: &[u8], field: u64) -> Vec<String> {
    bytes(message, field).into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

fn graph(model: &[u8]) -> &[u8] {
    bytes(model, 7)[0]
}

/// Name, shape and bytes of every tensor.
fn tensors(model: &[u8]) -> BTreeMap<String, (Vec<u64>, Vec<u8>)> {
    let all = bytes(graph(model), 5);
    let count = all.len();
    let read = |tensor: &[u8]| {
        let data = bytes(tensor, 9).first().map(|data| data.to_vec()).unwrap_or_default();
        (texts(tensor, 8).remove(0), (numbers(tensor, 1), data))
    };
    let named: BTreeMap<_, _> = all.into_iter().map(read).collect();
    assert_eq!(named.len(), count, "a name twice");
    named
}

/// Every model that has nodes of its own.
fn models() -> Vec<(&'static str, ModelConfig)> {
    let siglip = Preset::Mu.config();
    let mut masked = siglip.clone();
    (masked.text.padding, masked.text.pool) = (TextPadding::Masked, TextPool::Eos);
    (masked.text.gelu, masked.vision.gelu) = (Activation::Erf, Activation::Erf);
    let mut clip = siglip.clone().into_clip();
    (clip.embedding_dim, clip.text.width) = (Some(24), 48);
    let mut pooler = siglip.clone().into_dual();
    (pooler.embedding_dim, pooler.text.width, pooler.text.pool) = (Some(24), 48, TextPool::Pooler);
    let mut mean = pooler.clone();
    (mean.text.pool, mean.init_logit_bias) = (TextPool::Mean, -10.0);
    vec![("siglip", siglip), ("masked", masked), ("clip", clip), ("pooler", pooler), ("mean", mean)]
}

/// Both files of a model.
fn files(model: &TwoTowers, pass: &mut Pass) -> [Vec<u8>; 2] {
    let folder = tempfile::tempdir().unwrap();
    write(model, pass, folder.path(), &BTreeMap::new()).unwrap();
    [ONNX_VISION_FILE, ONNX_TEXT_FILE].map(|file| fs::read(folder.path().join(file)).unwrap())
}

fn cpu() -> Device {
    Device::open(&DeviceRequest::Cpu, DeviceOptions::default()).unwrap()
}

#[test]
fn every_tensor_is_defined_once_and_used() {
    let device = cpu();
    let pass = &mut device.pass();
    for (name, config) in models() {
        let model = TwoTowers::new(pass, &config, 0).unwrap();
        for file in files(&model, pass) {
            let tensors = tensors(&file);
            let named = |field| bytes(graph(&file), field).into_iter().map(|info| texts(info, 1).remove(0));
            let mut defined: BTreeSet<String> = named(11).chain(tensors.keys().cloned()).collect();
            let mut used = BTreeSet::new();
            for node in bytes(graph(&file), 1) {
                for input in texts(node, 1) {
                    assert!(defined.contains(&input), "{name}: {input} comes too late");
                    used.insert(input);
                }
                texts(node, 2).into_iter().for_each(|output| assert!(defined.insert(output.clone()), "{output} twice"));
            }
            named(12).for_each(|output| assert!(used.insert(output.clone()) && defined.contains(&output), "{output}"));
            let unused: Vec<_> = defined.difference(&used).collect();
            assert!(unused.is_empty(), "{name}: {unused:?}");
        }
    }
}

#[test]
fn every_parameter_is_there_with_its_values() {
    let device = cpu();
    let pass = &mut device.pass();
    for (name, config) in models() {
        let model = TwoTowers::new(pass, &config, 7).unwrap();
        let held: BTreeMap<_, _> = files(&model, pass).iter().flat_map(|file| tensors(file)).collect();
        for param in model.parameters().into_iter().filter(|param| !param.name().starts_with("logit_")) {
            let values = pass.read(param.value()).unwrap();
            let shape: Vec<u64> = param.value().shape().iter().map(|size| *size as u64).collect();
            let floats =
                |bytes: &[u8]| bytes.chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
            if let Some((dims, data)) = held.get(param.name()) {
                let data: Vec<f32> = floats(data);
                assert_eq!((dims, &data), (&shape, &values), "{name} {}", param.name());
                continue;
            }
            let (dims, data) = &held[&format!("{}.transposed", param.name())];
            let (data, [n, k]): (Vec<f32>, _) = (floats(data), [shape[0] as usize, shape[1] as usize]);
            assert_eq!(*dims, [shape[1], shape[0]], "{name} {}", param.name());
            assert!((0..n * k).all(|at| values[at] == data[at % k * n + at / k]), "{name} {}", param.name());
        }
    }
}

#[test]
fn long_tensors_may_lie_in_a_second_file() {
    let device = cpu();
    let pass = &mut device.pass();
    let config = Preset::Mu.config();
    let model = TwoTowers::new(pass, &config, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let graph_of = towers::vision(&model.vision, &config);
    let mut write = |most| {
        write_tower(&graph_of, pass, folder.path(), "v.onnx", &[], most).unwrap();
        fs::read(folder.path().join("v.onnx")).unwrap()
    };
    let within = tensors(&write(u64::MAX));
    assert!(!folder.path().join("v.onnx_data").exists());
    let file = write(0);
    let data = fs::read(folder.path().join("v.onnx_data")).unwrap();
    let mut end = 0;
    for tensor in bytes(graph(&file), 5) {
        let (name, place) = (texts(tensor, 8).remove(0), bytes(tensor, 13));
        let (_, values) = &within[&name];
        if place.is_empty() {
            assert!(values.len() < 1024 && bytes(tensor, 9) == [values.as_slice()], "{name}");
            continue;
        }
        let place: BTreeMap<_, _> =
            place.iter().map(|entry| (texts(entry, 1).remove(0), texts(entry, 2).remove(0))).collect();
        let [offset, length] = ["offset", "length"].map(|key| place[key].parse::<usize>().unwrap());
        assert_eq!((place["location"].as_str(), offset, numbers(tensor, 14)), ("v.onnx_data", end, vec![1]), "{name}");
        assert_eq!(&data[offset..offset + length], values, "{name}");
        end += length;
    }
    assert!(end == data.len() && end > 0);
}

/// A folder of Hugging Face's library in fixtures/.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

#[test]
fn the_bytes_are_those_that_onnxruntime_agreed_with() {
    // scripts/interchange/check_onnx.py, onnxruntime 1.32.0 and onnx 1.23.2: the library's own outputs within 2.4e-7.
    let device = cpu();
    let pass = &mut device.pass();
    let expected = [
        (
            "hf_siglip_tiny",
            [
                "1981f60bbf29f84ee445897e79bbcc26ef5577c1c6d49a54e91edd80f1992459",
                "d2ab3f177f81dffce9c4284be1474903c11e87b5fece4fd24a2b51151ae2cbd9",
            ],
        ),
        (
            "hf_clip_tiny",
            [
                "9a3c80b7d44139c3d386ded8d0e8f4ae530f3e5a02bdb1ba491dd62e9fa2c226",
                "9423304a7f8de801fb1fe7d88789dc5179507d752342d33978897adc689599f6",
            ],
        ),
    ];
    for (name, hashes) in expected {
        let model = TwoTowers::load(pass, &fixture(name)).unwrap();
        let found = files(&model, pass).map(|file| blake3::hash(&file).to_hex().to_string());
        assert_eq!(found, hashes, "{name}");
    }
}
