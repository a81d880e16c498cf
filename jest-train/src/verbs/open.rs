//! What several verbs open: a device, a checkpoint, the examples to read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jest_data::{LoaderConfig, Preprocess, Source, Tokenizer};
use jest_kernels::{Device, DeviceKind, DeviceLimits, DeviceOptions, DeviceRequest, Pass, Precision};
use jest_model::TwoTowers;

use crate::cli::{OnDevice, Pairs};
use crate::say::tell;
use crate::tiles::Tiles;
use crate::{Result, TrainError, pipeline_cache, tiles};

/// The device that was asked for, with products in f32.
pub fn device(on: &OnDevice) -> Result<Device> {
    device_in(on, Precision::F32)
}

/// The device that was asked for, with tiles of products as a run without a plan of them has.
pub fn device_in(on: &OnDevice, precision: Precision) -> Result<Device> {
    let device = open_device(&on.device, on.threads.unwrap_or(0), precision)?;
    tune(&device, !on.no_autotune, &Tiles::default());
    Ok(device)
}

/// Opens a device by its spelling, and says what a software adapter is good for.
pub fn open_device(spelling: &str, threads: usize, precision: Precision) -> Result<Device> {
    open_device_within(spelling, threads, precision, None)
}

/// As `open_device`, with at most so many MiB of tensors on a GPU.
pub fn open_device_within(
    spelling: &str,
    threads: usize,
    precision: Precision,
    device_mb: Option<u64>,
) -> Result<Device> {
    if spelling.to_lowercase().starts_with("cuda") {
        tell!("note: {spelling} means gpu here; the kernels run through Vulkan, Metal or DX12");
    }
    let request: DeviceRequest = spelling.parse()?;
    if request == DeviceRequest::Auto && precision == Precision::Bf16 {
        let gpu = Device::list().into_iter().find(|info| info.kind != DeviceKind::Cpu && !info.software);
        if let Some(gpu) = gpu {
            tell!("note: bf16 is the CPU device's; --precision f16 would use {}", gpu.name);
        }
    }
    let memory_bytes = device_mb.map(|mb| mb.saturating_mul(1 << 20));
    let limits = DeviceLimits { memory_bytes, ..Default::default() };
    let options = DeviceOptions { threads, precision, limits, ..Default::default() };
    let device = Device::open(&request, options)?;
    if device.info().software {
        tell!("note: {} is emulated on the CPU; `--device cpu` is many times faster", device.info().name);
    } else if let Some(folder) = kernel_folder()
        && let Some(note) = pipeline_cache::load(&device, &folder)
    {
        tell!("note: {note}");
    }
    Ok(device)
}

/// Takes the tiles of a plan; on a real GPU those that were chosen before, and times others.
pub fn tune(device: &Device, autotune: bool, planned: &Tiles) {
    if autotune && !device.info().software {
        let (kept, note) = kernel_folder().map(|folder| tiles::load(device, &folder)).unwrap_or_default();
        if let Some(note) = note {
            tell!("note: {note}");
        }
        device.use_tiles(kept.0);
        device.start_tuning(super::bench::now);
    }
    use_tiles(device, planned);
}

/// Takes tiles of a plan or a checkpoint, but on a software adapter, where tiles are chosen by shape alone.
pub fn use_tiles(device: &Device, tiles: &Tiles) {
    let info = device.info();
    if info.software && !tiles.is_empty() {
        tell!("note: `tiles` is passed over: {} is emulated, and its tiles are chosen by shape alone", info.name);
    } else {
        device.use_tiles(tiles.0.clone());
    }
}

/// Keeps what a real GPU compiled, and the tiles that were chosen, for the next process; that it cannot is only a note.
pub fn keep_kernels(device: &Device) {
    let Some(folder) = kernel_folder().filter(|_| !device.info().software) else { return };
    for kept in [pipeline_cache::save(device, &folder), tiles::save(device, &folder)] {
        if let Err(error) = kept {
            tell!("note: this is done again next time: {}", crate::error::chain(&error));
        }
    }
}

/// Where compiled kernels are kept: `jest` in the user's cache folder.
fn kernel_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    cache.or_else(|| named("LOCALAPPDATA")).map(|folder| folder.join("jest"))
}

/// How results name a device: `cpu`, or the adapter's name.
pub fn word(device: &Device) -> String {
    let info = device.info();
    if info.kind == DeviceKind::Cpu { "cpu".to_string() } else { info.name }
}

/// What lines of JSON say of a device.
pub fn setting(device: &Device) -> serde_json::Map<String, serde_json::Value> {
    let tiles: Vec<String> = Tiles(device.tiles()).into();
    let all: [(&str, serde_json::Value); 4] = [
        ("device", word(device).into()),
        ("driver", device.info().driver.into()),
        ("threads", device.threads().into()),
        ("tiles", tiles.into()),
    ];
    all.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// How a model reads captions and pictures.
pub struct Reads {
    pub tokenizer: Tokenizer,
    pub preprocess: Preprocess,
}

/// A checkpoint or exported folder: its model, and how it reads. Without a preprocessor, pictures are made as for SigLIP.
pub fn checkpoint(pass: &mut Pass, folder: &Path) -> Result<(TwoTowers, Reads)> {
    if folder.join(crate::checkpoint::CHECKSUMS).exists() {
        crate::checkpoint::verify(folder)?;
    }
    let model = TwoTowers::load(pass, folder)?;
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Err(TrainError::NoTokenizerBeside { path: folder.to_path_buf() });
    }
    let size = model.config().vision.image_size;
    let preprocess = Preprocess::open(folder)?.unwrap_or(Preprocess::siglip(size));
    if preprocess.size != size {
        return Err(TrainError::PixelsOfOtherSize { path: folder.to_path_buf(), pixels: preprocess.size, model: size });
    }
    Ok((model, Reads { tokenizer: Tokenizer::open(&path)?, preprocess }))
}

/// How a verb reads pairs for a model.
pub fn pairs(pairs: &Pairs, model: &TwoTowers, reads: Reads) -> Result<LoaderConfig> {
    let sources = Source::parse_list(&pairs.data)?;
    Ok(reading(sources, model, reads, pairs.workers))
}

/// How a model's examples are read once, in order.
pub fn reading(sources: Vec<Source>, model: &TwoTowers, reads: Reads, workers: usize) -> LoaderConfig {
    let Reads { tokenizer, preprocess } = reads;
    let mut config = LoaderConfig::new(sources, preprocess, Arc::new(tokenizer), model.config().text.tokens);
    config.workers = workers;
    config
}

/// All captions of a data set in order.
pub fn captions(sources: Vec<Source>) -> Result<Vec<String>> {
    // Pictures are decoded to one pixel: a caption counts only where its example can be used.
    let any = jest_data::train_tokenizer(["a"], 300)?;
    let config = LoaderConfig::new(sources, Preprocess::siglip(1), Arc::new(any), 2);
    let mut all = Vec::new();
    for batch in jest_data::read_all(&config, 1024)? {
        all.extend(batch?.captions);
    }
    Ok(all)
}
