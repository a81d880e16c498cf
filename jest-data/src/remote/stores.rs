//! The store that an address belongs to.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A store, and the path of one object in it.
pub(super) struct Located {
    pub store: Arc<dyn ObjectStore>,
    pub path: Path,
}

/// Retries are ours, so that they count what arrived and say when they gave up.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Time limits are ours too: a large shard takes as long as it takes.
fn client() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(Duration::from_secs(20)).with_allow_http(true)
}

/// Settings of one store, by the names of environment variables.
fn settings<'a, K: FromStr>(all: &'a [(String, String)], prefix: &'a str) -> impl Iterator<Item = (K, &'a str)> {
    let named = all.iter().filter(move |(name, _)| name.starts_with(prefix));
    named.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
}

pub(super) fn open(url: &str, all: &[(String, String)]) -> Result<Located, Error> {
    // Refused where the process has one already, which then serves as well.
    rustls::crypto::ring::default_provider().install_default().ok();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = Path::from_url_path(path)?;
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" => {
            let builder = AmazonS3Builder::new().with_retry(once()).with_client_options(client());
            let keys = settings::<AmazonS3ConfigKey>(all, "AWS_");
            // The bucket comes last: a variable that names one must not win over the address.
            Arc::new(
                keys.fold(builder, |builder, (key, value)| builder.with_config(key, value))
                    .with_bucket_name(bucket)
                    .with_allow_http(true)
                    .build()?,
            )
        }
        "gs" => {
            let builder = GoogleCloudStorageBuilder::new().with_retry(once()).with_client_options(client());
            let keys = settings::<GoogleConfigKey>(all, "GOOGLE_");
            let builder = keys.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.with_bucket_name(bucket).build()?)
        }
        "az" => {
            let builder = MicrosoftAzureBuilder::new().with_retry(once()).with_client_options(client());
            let keys = settings::<AzureConfigKey>(all, "AZURE_");
            let builder = keys.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.with_container_name(bucket).build()?)
        }
        _ => {
            let builder = HttpBuilder::new().with_url(format!("{scheme}://{bucket}")).with_retry(once());
            Arc::new(builder.with_client_options(client()).build()?)
        }
    };
    Ok(Located { store, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_that_of_the_address() {
        let names = ["AWS_BUCKET", "AWS_BUCKET_NAME", "GOOGLE_BUCKET", "GOOGLE_BUCKET_NAME", "AZURE_CONTAINER_NAME"];
        let mut settings = names.map(|name| (name.to_string(), "other".to_string())).to_vec();
        settings.push(("AZURE_STORAGE_ACCOUNT_NAME".to_string(), "me".to_string()));
        for scheme in ["s3", "gs", "az"] {
            let said = open(&format!("{scheme}://mine/a.tar"), &settings).unwrap().store.to_string();
            assert!(said.contains("mine") && !said.contains("other"), "{said}");
        }
    }
}
