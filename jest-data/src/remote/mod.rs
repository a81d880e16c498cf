//! Shards on a server: `s3://`, `gs://`, `az://`, `http://` and `https://`, read while they arrive.

#[cfg(feature = "remote")]
mod cache;
#[cfg(feature = "remote")]
mod fetch;
#[cfg(feature = "remote")]
mod stores;

use crate::shard::Broken;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Schemes of addresses that are read from a server.
const SCHEMES: [&str; 5] = ["s3://", "gs://", "az://", "http://", "https://"];

/// How shards on servers are read.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Credentials, endpoints and the like, by the names of the environment variables that usually hold them: `AWS_*`, `GOOGLE_*`,
    /// `AZURE_*`.
    pub settings: Vec<(String, String)>,
    /// A connection that gives no byte for this long is given up and opened anew.
    pub stall: Duration,
    /// Attempts after the first that failed, until a byte arrives again.
    pub retries: u32,
    /// Wait before the first of them; doubled each time, to 10 seconds.
    pub backoff: Duration,
    /// Folder that keeps whole shards.
    pub cache: Option<PathBuf>,
    /// Bytes of that folder; the oldest shards make room.
    pub cache_bytes: u64,
}

impl Default for RemoteOptions {
    /// 60 seconds, 8 retries from 0.2 seconds on, no cache; 64 GiB where a folder is given.
    fn default() -> RemoteOptions {
        RemoteOptions {
            settings: Vec::new(),
            stall: Duration::from_secs(60),
            retries: 8,
            backoff: Duration::from_millis(200),
            cache: None,
            cache_bytes: 64 << 30,
        }
    }
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of settings are secrets.
        let names: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("RemoteOptions").field("settings", &names).field("cache", &self.cache).finish_non_exhaustive()
    }
}

static INSTALLED: OnceLock<Arc<RemoteOptions>> = OnceLock::new();

impl RemoteOptions {
    /// Makes these the options of all sources of this process that are given none; the first call counts.
    pub fn install(self) {
        INSTALLED.get_or_init(|| Arc::new(self));
    }

    pub(crate) fn installed() -> Arc<RemoteOptions> {
        INSTALLED.get().cloned().unwrap_or_default()
    }
}

/// Whether a path is the address of something on a server.
pub(crate) fn is_remote(path: &str) -> bool {
    SCHEMES.iter().any(|scheme| path.starts_with(scheme))
}

/// Whether this build can read from servers.
pub(crate) const AVAILABLE: bool = cfg!(feature = "remote");

/// The bytes of a shard on a server, from its cached copy where there is one.
#[cfg(feature = "remote")]
pub(crate) fn open(url: &str, options: &Arc<RemoteOptions>) -> Result<Box<dyn Read + Send>, Broken> {
    let missing = |text: String| Broken::new(crate::SkipReason::ShardMissing, text);
    let shelf = options.cache.as_deref().map(|folder| cache::Shelf::new(folder, options.cache_bytes, url));
    if let Some(file) = shelf.as_ref().and_then(cache::Shelf::find) {
        return Ok(Box::new(file));
    }
    let store = stores::open(url, &options.settings).map_err(|e| missing(format!("{url}: {e}")))?;
    let fetched = fetch::start(store, url, options).map_err(|e| missing(format!("{url}: {e}")))?;
    Ok(match shelf {
        Some(shelf) => Box::new(shelf.keep(fetched)),
        None => Box::new(fetched),
    })
}

/// Without the feature no source has such a shard.
#[cfg(not(feature = "remote"))]
pub(crate) fn open(url: &str, _options: &Arc<RemoteOptions>) -> Result<Box<dyn Read + Send>, Broken> {
    Err(Broken::new(crate::SkipReason::ShardMissing, format!("{url}: built without the feature `remote`")))
}
