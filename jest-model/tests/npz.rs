//! big_vision's archives: the same weights as in Hugging Face's layout, and archives that lie.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jest_kernels::{Pass, testing};
use jest_model::{Import, ModelError, Report, TwoTowers};
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveWriter};

fn pass() -> Pass {
    testing::devices()[0].pass()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn read(path: &Path) -> Result<(TwoTowers, Report), ModelError> {
    let mut report = Report::default();
    let model = Import::open(path)?.read(&mut pass(), &mut report)?;
    Ok((model, report))
}

fn bytes(model: &TwoTowers) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.write_weights(&mut pass(), &mut bytes, &BTreeMap::new()).unwrap();
    bytes
}

/// The arrays of an archive that is not packed, by name.
fn arrays(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let data = fs::read(path).unwrap();
    let archive = ZipArchive::from_slice(&data).unwrap();
    let mut all = BTreeMap::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().unwrap() {
        assert_eq!(entry.compression_method(), CompressionMethod::STORE);
        let name = String::from_utf8(entry.file_path().as_bytes().to_vec()).unwrap();
        all.insert(name, archive.get_entry(entry.wayfinder()).unwrap().data().to_vec());
    }
    all
}

fn archive<'a>(path: &Path, arrays: impl IntoIterator<Item = (&'a String, &'a Vec<u8>)>) {
    let mut out = ZipArchiveWriter::new(fs::File::create(path).unwrap());
    for (name, data) in arrays {
        let (mut entry, config) = out.new_file(name).compression_method(CompressionMethod::STORE).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(data).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    out.finish().unwrap();
}

fn array(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), elements].concat()
}

#[test]
fn an_archive_holds_the_weights_of_hugging_faces_folder() {
    let (want, _) = read(&fixture("hf_siglip_tiny")).unwrap();
    for (name, tensors) in [("siglip.npz", 92), ("siglip_stacked.npz", 60)] {
        let (model, report) = read(&fixture("interchange").join(name)).unwrap();
        assert_eq!(bytes(&model), bytes(&want), "{name}");
        assert_eq!(model.config(), want.config(), "{name}");
        assert!(report.to_string().ends_with(&format!("{tensors} tensors mapped, 0 ignored, 0 wrong")), "{report}");
    }
}

#[test]
fn half_precision_is_read_and_the_state_of_training_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trained.npz");
    let mut all = arrays(&fixture("interchange/siglip.npz"));
    // 1.0 in bfloat16, which JAX writes as two bytes without a type, and 0.5 in f16.
    all.insert("params/t.npy".to_string(), array("|V2", "(1,)", &[0x80, 0x3f]));
    all.insert("params/b.npy".to_string(), array("<f2", "(1,)", &[0x00, 0x38]));
    all.insert("opt/count.npy".to_string(), array("<i4", "()", &[7, 0, 0, 0]));
    archive(&path, &all);
    let (model, report) = read(&path).unwrap();
    let pass = &mut pass();
    assert_eq!(pass.read(model.logit_scale.value()).unwrap(), [1.0]);
    assert_eq!(pass.read(model.logit_bias.value()).unwrap(), [0.5]);
    assert!(report.to_string().contains("ignored opt/count: state of its training"), "{report}");
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.npz");
    let original = arrays(&fixture("interchange/siglip.npz"));
    let long = "x".repeat(600);
    for (name, data, words) in [
        ("params/t", Some(array(">f4", "(1,)", &[0; 4])), "params/t: expected F32, found >f4"),
        ("params/t", Some(array("<f8", "(1,)", &[0; 8])), "found <f8; convert it to F32"),
        ("params/t", Some(array("|O", "(1,)", &[0; 40])), "found |O"),
        ("params/t", Some(array("<f4", "(2,)", &[0; 8])), "params/t: expected [1], found [2]"),
        ("params/t", Some(array("<f4", "(1,)", &f32::NAN.to_le_bytes())), "element 0 of params/t is NaN"),
        ("params/t", Some(array("<f4", "(9,)", &[0; 4])), "claims the shape [9] in 72 bytes, which cannot be"),
        ("params/t", Some(array("<f4", "(4611686018427387904, 4)", &[0; 4])), "which cannot be"),
        ("params/t", Some(array("<f4", "(-1,)", &[0; 4])), "has a header that is not numpy's"),
        ("params/t", Some(b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()), "claims a header of 4294967295 bytes"),
        ("params/t", Some(b"\x93NUM".to_vec()), "is cut short"),
        ("params/t", Some(b"PK pickled things".to_vec()), "is no array"),
        ("params/t", None, "params/t: expected [1], missing"),
        ("params/extra", Some(array("<f4", "(1,)", &[0; 4])), "params/extra: found [1], not expected"),
        ("params/img/embedding/kernel", None, "holds no params/img/embedding/kernel: it is no SigLIP"),
        (
            "params/img/embedding/kernel",
            Some(array("<f4", "(192, 32)", &[0; 4 * 192 * 32])),
            "of shape [192, 32] where 4 axes are needed",
        ),
        (long.as_str(), Some(array("<f4", "(1,)", &[0; 4])), "604 bytes in the name of an array"),
    ] {
        let mut all = original.clone();
        let name = format!("{name}.npy");
        match data {
            Some(data) => all.insert(name, data),
            // Under another name: were it gone, the archive would be too small for its own model.
            None => all.remove(&name).and_then(|data| all.insert("params/other.npy".to_string(), data)),
        };
        archive(&path, &all);
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("wrong.npz"), "{words}: {said}");
    }
    let twice = original.iter().chain(original.iter().take(1)).collect::<Vec<_>>();
    archive(&path, twice);
    assert!(matches!(read(&path).unwrap_err(), ModelError::DuplicateTensor { .. }));
}

#[test]
fn damaged_archives_are_refused_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.npz");
    for name in ["siglip.npz", "siglip_stacked.npz"] {
        let whole = fs::read(fixture("interchange").join(name)).unwrap();
        for length in [0, 1, 21, 22, 100, 5000, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read(&path).unwrap_err(), ModelError::Archive { .. }), "{name} cut to {length}");
        }
        // One bit anywhere: the elements have a checksum; names, sizes and places are held against each other.
        let mut kept = 0;
        for at in (0..whole.len()).step_by(whole.len() / 150) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            kept += usize::from(read(&path).is_ok());
        }
        assert!(kept <= 15, "{name}: {kept} of 150 changes went unnoticed");
    }
    fs::write(&path, b"PK\x05\x06 not a zip, only its beginning, and then some").unwrap();
    assert!(read(&path).is_err());
    assert!(matches!(read(&folder.path().join("absent.npz")).unwrap_err(), ModelError::Io { .. }));
}
