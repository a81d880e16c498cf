//! Models of another family: trained, selected by, saved, resumed.

mod common;

use std::fs;

use common::{Place, THREE_RUNS, jest};
use jest_model::{Family, ModelConfig, TensorFile, TextPool};

/// Keys of a small CLIP with towers of their own sizes.
const CLIP: [&str; 8] = [
    "--set",
    "objective=softmax",
    "--set",
    "model.family=clip",
    "--set",
    "model.text_width=24",
    "--set",
    "model.embedding_dim=12",
];

#[test]
fn a_clip_is_trained_saved_and_resumed() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &CLIP).well();
    let folder = place.newest("out", "jest");
    let config = ModelConfig::open(&folder).unwrap();
    assert_eq!((config.family, config.vision.width, config.text.width), (Family::Clip, 16, 24));
    assert_eq!((config.embedding_dim(), config.text.pool), (12, TextPool::Eos));
    let file = TensorFile::open(&folder.join("model.safetensors")).unwrap();
    let shape = |name: &str| file.shape(name).map(<[usize]>::to_vec);
    assert_eq!(shape("logit_scale"), Some(vec![]));
    assert_eq!(shape("logit_bias"), None);
    assert_eq!(shape("visual_projection.weight"), Some(vec![12, 16]));
    assert_eq!(
        shape("vision_model.embeddings.position_embedding.weight"),
        Some(vec![5, 16]),
        "four patches and a class"
    );

    // The last step made again gives the same bytes.
    let whole = place.weights("out", "uniform");
    fs::remove_dir_all(place.newest("out", "uniform")).unwrap();
    place.train("out", &[&CLIP[..], &["--resume", "latest"]].concat()).well();
    assert_eq!(place.weights("out", "uniform"), whole);
}

#[test]
fn exports_are_imported_with_their_pixels() {
    let place = Place::new("");
    let pixels = ["--set", "data.resize_mode=shortest", "--set", "data.interpolation=bilinear"];
    place.train("out", &[&CLIP[..], &pixels].concat()).well();
    let run = |verb: &str, from: &str, to: &str, more: &[&str]| {
        let (from, to) = (place.path(from), place.path(to));
        let paths = [from.as_os_str(), to.as_os_str()];
        jest([std::ffi::OsStr::new(verb)].into_iter().chain(paths).chain(more.iter().map(std::ffi::OsStr::new))).well();
    };
    let read = |file: &str| fs::read(place.path(file)).unwrap();
    let saved = place.newest("out", "train");
    for format in ["hf", "open-clip"] {
        let [exported, imported] = ["exported", "imported"].map(|word| format!("{word}-{format}"));
        run("export", "out", &exported, &["--format", format]);
        run("import", &exported, &imported, &[]);
        for file in ["model.safetensors", "preprocessor_config.json", "tokenizer.json"] {
            let (own, back) = (fs::read(saved.join(file)).unwrap(), read(&format!("{imported}/{file}")));
            // Weights keep their bytes behind a header that says who wrote them.
            let tail = if file.ends_with("tensors") { own.len() / 2 } else { 0 };
            assert_eq!(own[tail..], back[back.len() - (own.len() - tail)..], "{format} {file}");
        }
    }
    let pixels = String::from_utf8(read("exported-open-clip/open_clip_config.json")).unwrap();
    assert!(pixels.contains("\"shortest\"") && pixels.contains("\"bilinear\""), "{pixels}");
}

/// Without a record of its training, as any checkpoint of another library: it selects, and the gap in the costs is told.
#[test]
fn a_model_of_another_library_is_a_reference() {
    let place = Place::new(THREE_RUNS);
    place.train("out", &["--steps", "2"]).well();
    let (own, exported) = (place.newest("out", "reference"), place.path("exported"));
    let paths = [own.as_os_str(), exported.as_os_str()];
    let format = ["--format", "hf"].map(std::ffi::OsStr::new);
    jest([std::ffi::OsStr::new("export")].into_iter().chain(paths).chain(format)).well();
    assert!(exported.join("model.safetensors").exists() && !exported.join("state.json").exists());
    let by = |folder: &std::path::Path| format!("run.jest.reference='{}'", folder.display());
    let gap = "does not tell what its training took";
    let counted = place.train("by-own", &["--steps", "2", "--set", &by(&own)]).well();
    let uncounted = place.train("by-exported", &["--steps", "2", "--set", &by(&exported)]).well();
    assert!(!counted.err.contains(gap) && uncounted.err.contains(gap), "{}", uncounted.err);
    assert_eq!(place.weights("by-exported", "jest"), place.weights("by-own", "jest"));
    // Told once, also by a run that goes on.
    let told = place.metrics("by-exported");
    assert_eq!(told.matches(gap).count(), 1, "{told}");
    for run in ["uniform", "jest"] {
        fs::remove_dir_all(place.newest("by-exported", run)).unwrap();
    }
    place.train("by-exported", &["--steps", "2", "--set", &by(&exported), "--resume", "latest"]).well();
    assert_eq!(place.metrics("by-exported"), told);
}

#[test]
fn what_a_clip_does_not_have_is_refused() {
    let place = Place::new("");
    let sigmoid = [&CLIP[2..], &["--set", "objective=sigmoid"]].concat();
    place.train("out", &sigmoid).refused(3, &["no logit_bias", "objective = \"softmax\""]);
    let last = [&CLIP[..], &["--set", "text.pool=last"]].concat();
    place.train("out", &last).refused(3, &["family clip has text.pool"]);
    place.train("out", &["--set", "model.embedding_dim=12"]).refused(3, &["embedding_dim is 12", "vision.width, 16"]);
}

#[test]
fn a_run_begins_with_weights_at_its_own_sizes() {
    let place = Place::new("");
    place.train("out", &["--steps", "1"]).well();
    let init = format!("init={}", place.newest("out", "train").display());
    let from = |out: &str, keys: &[&str]| {
        let keys = [&["--set", &init, "--steps", "1"][..], keys].concat();
        place.train(out, &keys)
    };
    from("larger", &["--set", "model.image_size=24", "--set", "model.text_tokens=12"])
        .well()
        .tells(&["resizes vision_model.embeddings.position_embedding.weight: positions of 2 x 2 -> 3 x 3 patches"])
        .tells(&["positions of 8 -> 12 tokens, linear"]);
    let config = ModelConfig::open(&place.newest("larger", "train")).unwrap();
    assert_eq!((config.vision.image_size, config.text.tokens), (24, 12));
    from("other", &["--set", "model.depth=2"]).refused(8, &["holds another model", "num_hidden_layers"]);
    let vocabulary = config.text.vocab_size;
    let said = format!("rows of ids 0..{vocabulary} are kept, those of {vocabulary}..9000 drawn");
    from("words", &["--set", "model.vocab_size=9000"]).well().tells(&[&said]);
    let back = format!("init={}", place.newest("words", "train").display());
    place.train("back", &["--set", &back]).refused(8, &["a vocabulary of 9000", "model.vocab_size"]);
}

#[test]
fn an_import_has_the_sizes_that_were_asked_for() {
    let place = Place::new("");
    let source = common::sample("../../fixtures/interchange/siglip.npz");
    let run = |to: &str, more: &[&str]| {
        let to = place.path(to);
        let paths = ["import".as_ref(), source.as_os_str(), to.as_os_str()];
        jest(paths.into_iter().chain(more.iter().map(std::ffi::OsStr::new)))
    };
    let sizes = ["--image-size", "48", "--patch-size", "16", "--text-tokens", "9", "--vocab-size", "101"];
    let told =
        run("imported", &[&sizes[..], &["--interpolation", "bilinear", "--text-positions", "truncate"]].concat())
            .well();
    for line in ["patches of 8 x 8 -> 16 x 16", "positions of 4 x 4 -> 3 x 3 patches, bilinear", "the first 9 of 16"] {
        assert!(told.out.contains(line), "{}", told.out);
    }
    let config = ModelConfig::open(&place.path("imported")).unwrap();
    assert_eq!((config.vision.image_size, config.vision.patch_size), (48, 16));
    assert_eq!((config.text.tokens, config.text.vocab_size), (9, 101));
    let pixels = fs::read_to_string(place.path("imported/preprocessor_config.json")).unwrap();
    assert!(pixels.contains("48"), "{pixels}");
    run("refused", &["--vocab-size", "1"]).refused(3, &["above 1, the id that ends a text"]);
    let nearest = run("refused", &["--interpolation", "nearest"]);
    assert_eq!(nearest.code, Some(2));
    nearest.tells(&["unknown variant `nearest`, expected one of `bicubic`, `bilinear`, `cubic`"]);
    assert!(!place.path("refused").exists());
}

#[test]
fn a_locked_tower_of_another_model_is_kept_to_the_byte() {
    let place = Place::new("");
    place.train("out", &["--steps", "1"]).well();
    let saved = place.newest("out", "train");
    let init = format!("init_image={}", saved.display());
    let locked = ["--set", &init, "--lock-image", "--seed", "7"];
    place.train("locked", &[&locked[..], &["--steps", "3"]].concat()).well();
    let weights = |folder: &std::path::Path, name: &str| {
        TensorFile::open(&folder.join("model.safetensors")).unwrap().tensor(name).unwrap().values
    };
    let newest = place.newest("locked", "train");
    let (image, text) = ("vision_model.head.mlp.fc1.weight", "text_model.head.weight");
    assert_eq!(weights(&newest, image), weights(&saved, image));
    assert_ne!(weights(&newest, text), weights(&saved, text));
    let moments = TensorFile::open(&newest.join("optimizer.safetensors")).unwrap();
    assert!(moments.names().all(|name| !name.contains("vision_model")));
    // Resumed, it is the same run.
    let whole = place.weights("locked", "train");
    fs::remove_dir_all(&newest).unwrap();
    place.train("locked", &[&locked[..], &["--steps", "3", "--resume", "latest"]].concat()).well();
    assert_eq!(place.weights("locked", "train"), whole);

    place
        .train("drawn", &["--lock-image"])
        .refused(3, &["model.lock_image", "a tower drawn from the seed", "init_image"]);
    let both = format!("init={}", saved.display());
    place.train("both", &["--set", &both, "--set", &init]).refused(3, &["init_image", "leave one of them out"]);
}

#[test]
fn towers_of_two_folders_make_a_model() {
    let place = Place::new("");
    let run = |more: &[&str]| {
        let (image, text) = (
            common::sample("../../fixtures/interchange/siglip_vision"),
            common::sample("../../fixtures/hf_siglip_tiny"),
        );
        let to = place.path("joined");
        let paths = ["import".as_ref(), image.as_os_str(), to.as_os_str(), "--text".as_ref(), text.as_os_str()];
        jest(paths.into_iter().chain(more.iter().map(std::ffi::OsStr::new)))
    };
    let told = run(&["--text-tokens", "12"]).well();
    assert!(told.out.contains("drawn   logit_scale") && told.out.contains("2 parameters drawn"), "{}", told.out);
    let config = ModelConfig::open(&place.path("joined")).unwrap();
    assert_eq!((config.family, config.text.tokens, config.vision.image_size), (Family::Siglip, 12, 32));
}
