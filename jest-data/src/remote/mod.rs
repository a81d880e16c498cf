//! Shards on a server: `s3://`, `gs://`, `az://`, `http://` and `https://`, read while they arrive.

#[cfg(feature = "remote")]
mod cache;
#[cfg(feature = "remote")]
mod fetch;
#[cfg(feature = "remote")]
mod stores;

use crate::shard::Broken;
use crate::{DataError, Result, SkipReason};
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
    /// A connection that gives fewer than `least_bytes` in this time is given up and opened anew. Time in which nobody reads does not
    /// count.
    pub stall: Duration,
    /// Bytes that count as progress.
    pub least_bytes: u64,
    /// Attempts after the first that failed, until one brings `least_bytes`.
    pub retries: u32,
    /// Wait before the first of them; doubled each time, to 10 seconds.
    pub backoff: Duration,
    /// Folder that keeps whole shards.
    pub cache: Option<PathBuf>,
    /// Bytes of that folder; the oldest shards make room.
    pub cache_bytes: u64,
}

impl Default for RemoteOptions {
    /// 64 KiB in 60 seconds, 8 retries from 0.2 seconds on, no cache; 64 GiB where a folder is given.
    fn default() -> RemoteOptions {
        RemoteOptions {
            settings: Vec::new(),
            stall: Duration::from_secs(60),
            least_bytes: 64 << 10,
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

    /// Refuses a cache that nothing can be written to.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(folder) = &self.cache else { return Ok(()) };
        let written = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
        written.map(drop).map_err(DataError::io("write to the cache of shards,", folder))
    }
}

/// Whether a path is the address of something on a server.
pub(crate) fn is_remote(path: &str) -> bool {
    SCHEMES.iter().any(|scheme| path.starts_with(scheme))
}

/// Whether this build can read from servers.
pub(crate) const AVAILABLE: bool = cfg!(feature = "remote");

/// A shard on a server that was asked for and may not have answered.
pub(crate) struct Asked {
    url: String,
    #[cfg(feature = "remote")]
    bytes: std::io::Result<Bytes>,
}

#[cfg(feature = "remote")]
enum Bytes {
    Kept(std::fs::File),
    Arriving(fetch::Fetched, Option<cache::Shelf>),
}

impl Asked {
    /// Looks for a copy of a shard, or begins to fetch it; waits for neither.
    #[cfg(feature = "remote")]
    pub fn new(url: String, options: &Arc<RemoteOptions>) -> Asked {
        let shelf = options.cache.as_deref().map(|folder| cache::Shelf::new(folder, &url, options));
        let bytes = match shelf.as_ref().and_then(cache::Shelf::find) {
            Some(file) => Ok(Bytes::Kept(file)),
            None => fetch::start(&url, options).map(|fetched| Bytes::Arriving(fetched, shelf)),
        };
        Asked { url, bytes }
    }

    /// The bytes of the shard, once the first are there.
    #[cfg(feature = "remote")]
    pub fn bytes(self) -> std::result::Result<Box<dyn Read + Send>, Broken> {
        let missing = |e: std::io::Error| Broken::new(SkipReason::ShardMissing, e.to_string());
        match self.bytes {
            Err(e) => Err(Broken::new(SkipReason::ShardMissing, format!("{}: {e}", self.url))),
            Ok(Bytes::Kept(file)) => Ok(Box::new(file)),
            Ok(Bytes::Arriving(mut fetched, shelf)) => {
                fetched.first().map_err(missing)?;
                Ok(match shelf {
                    Some(shelf) => Box::new(shelf.keep(fetched)),
                    None => Box::new(fetched),
                })
            }
        }
    }
}

/// Without the feature no source has such a shard.
#[cfg(not(feature = "remote"))]
impl Asked {
    pub fn new(url: String, _options: &Arc<RemoteOptions>) -> Asked {
        Asked { url }
    }

    pub fn bytes(self) -> std::result::Result<Box<dyn Read + Send>, Broken> {
        Err(Broken::new(SkipReason::ShardMissing, format!("{}: built without the feature `remote`", self.url)))
    }
}
