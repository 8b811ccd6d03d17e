//! The store that a URL names, with what it can do and the credentials that it is entered with.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use tokio::runtime::Runtime;
use url::Url;

use super::super::folder::TargetFolder;
use super::connector::Connector;
use super::failure;
use super::key::Names;
use super::orphans::{OrphanError, Orphans};
use super::profile;
use super::trial::Trial;
use crate::assemble::DownloadDataFile;
use crate::engine::taken;
use crate::process::{ProcessingError, Target as Place};

/// Key of OpenMSIStream's configuration files for the secret.
const SECRET_KEY_ID: &str = "secret_key_id";

/// Why there is no such target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is no URL.
    #[error(
        "`{0}` is no URL of an object store: write s3://BUCKET, az://CONTAINER, gs://BUCKET, https://HOST/FOLDER or \
        file:///FOLDER, each with a prefix behind it if you like"
    )]
    Url(String),
    /// It holds a password.
    #[error(
        "the URL holds a password, which other users of this machine could see: give it in DATAMILL_HTTP_USER and DATAMILL_HTTP_PASSWORD"
    )]
    Password,
    /// The section of the configuration has a key that means nothing.
    #[error(
        "section `[s3]` of the configuration has the key `{0}`, which is not known; the usual ones are \
        `access_key_id`, `secret_key_id`, `endpoint_url` and `region`"
    )]
    Key(String),
    /// The endpoint is no address.
    #[error(
        "the address of `{store}` {why}: give `endpoint_url` of section `[s3]` (or AWS_ENDPOINT_URL, or that of the AWS \
        profile) a host such as `s3.example.org`, or leave it out for Amazon's"
    )]
    Address {
        /// The URL.
        store: String,
        /// What is wrong with it.
        why: String,
    },
    /// The shared AWS profile cannot be used.
    #[error(transparent)]
    Profile(#[from] profile::ProfileError),
    /// The folder cannot be made or read.
    #[error("cannot make or read the folder `{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The settings do not make a store.
    #[error("`{store}` cannot be used: {reason}")]
    Settings {
        /// The URL.
        store: String,
        /// Why.
        reason: String,
    },
    /// The store keeps no metadata, so versions cannot be told apart there.
    #[error(
        "`{0}` keeps nothing beside the content that would tell one version from another: only `--on_exists replace` \
        and `newer` (which replaces there as well) can be used"
    )]
    OnExists(String),
    /// Threads cannot be started.
    #[error("cannot start threads")]
    Threads(#[from] std::io::Error),
}

/// What a kind of store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// It keeps what [`super::origin`] writes.
    pub(super) metadata: bool,
    /// Objects are written only where nothing is, or only over what was seen.
    pub(super) conditions: Conditions,
    /// Large files go in parts.
    pub(super) multipart: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conditions {
    None,
    /// Only where nothing is; not for files in parts.
    Create,
    /// Both, but not for files in parts.
    Put,
    All,
}

/// A store and where in it.
pub(super) struct Target {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    pub(super) names: Names,
    /// Between the words in the names of metadata.
    pub(super) separator: char,
    pub(super) abilities: Abilities,
    pub(super) connector: Connector,
    pub(super) orphans: Option<Orphans>,
    /// The store set up in the same way, without a network.
    trial: Option<Trial>,
    /// Where it is a local one.
    folder: Option<TargetFolder>,
    /// The address of the store, where the URL does not say it.
    endpoint: Option<String>,
    /// The URL, for people.
    pub(super) shown: String,
}

impl Target {
    /// The store that `url` names, to look at what is in it: a folder is not made.
    pub(super) fn open_existing(url: &str, section: Option<&BTreeMap<String, String>>) -> Result<Self, TargetError> {
        if let Some(folder) =
            Url::parse(url).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok())
            && let Err(source) = std::fs::read_dir(&folder)
        {
            return Err(TargetError::Folder { folder, source });
        }
        Self::open(url, section)
    }

    /// The store that `url` names; `section` is `[s3]` of the configuration.
    pub(super) fn open(url: &str, section: Option<&BTreeMap<String, String>>) -> Result<Self, TargetError> {
        let parsed = Url::parse(url).map_err(|_| TargetError::Url(url.to_owned()))?;
        if parsed.password().is_some() {
            return Err(TargetError::Password);
        }
        let (scheme, prefix) = match parsed.scheme() {
            // its path is the folder's
            "file" => (ObjectStoreScheme::Local, Path::default()),
            _ => ObjectStoreScheme::parse(&parsed).map_err(|_| TargetError::Url(url.to_owned()))?,
        };
        let opening = Opening { url, parsed: &parsed, prefix, connector: Connector::default() };
        match scheme {
            ObjectStoreScheme::AmazonS3 => opening.s3(section),
            ObjectStoreScheme::MicrosoftAzure => opening.azure(),
            ObjectStoreScheme::GoogleCloudStorage => opening.google(),
            ObjectStoreScheme::Http => opening.http(),
            ObjectStoreScheme::Local => opening.local(),
            _ => Err(TargetError::Url(url.to_owned())),
        }
    }
}

/// A store that is being opened.
struct Opening<'u> {
    url: &'u str,
    parsed: &'u Url,
    prefix: Path,
    connector: Connector,
}

impl Opening<'_> {
    fn cannot(&self, error: object_store::Error) -> TargetError {
        TargetError::Settings { store: self.url.to_owned(), reason: crate::report::chain(&error) }
    }

    fn target(
        &self,
        store: Arc<dyn ObjectStore>,
        trial: Option<Trial>,
        separator: char,
        abilities: Abilities,
    ) -> Target {
        Target {
            store,
            prefix: self.prefix.clone(),
            names: Names::Any,
            separator,
            abilities,
            connector: self.connector.clone(),
            orphans: None,
            trial,
            folder: None,
            endpoint: None,
            shown: self.url.trim_end_matches('/').to_owned(),
        }
    }

    fn s3(&self, section: Option<&BTreeMap<String, String>>) -> Result<Target, TargetError> {
        let cannot = |error| self.cannot(error);
        let builder = s3(self.parsed, section)?;
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let disabled = builder.get_config_value(&AmazonS3ConfigKey::ConditionalPut);
        let conditions = match disabled.as_deref() {
            Some("disabled") => Conditions::None,
            _ => Conditions::All,
        };
        let options = options().with_allow_http(true);
        let trial = Trial::new(|no_network| {
            let dry = builder.clone().with_http_connector(no_network);
            Ok(vec![shared(dry.clone().build())?, shared(dry.with_skip_signature(true).build())?])
        });
        let trial = trial.map_err(cannot)?;
        let store = Arc::new(builder.with_http_connector(self.connector.clone()).build().map_err(cannot)?);
        let client = self.connector.client(&options).map_err(cannot)?;
        let orphans = Some(Orphans::new(Arc::clone(&store), client));
        let abilities = Abilities { metadata: true, conditions, multipart: true };
        Ok(Target { orphans, endpoint, ..self.target(store, Some(trial), '-', abilities) })
    }

    fn azure(&self) -> Result<Target, TargetError> {
        let cannot = |error| self.cannot(error);
        let builder = MicrosoftAzureBuilder::from_env().with_url(self.url).with_retry(retries());
        let builder = builder.with_client_options(options());
        let trial = Trial::new(|no_network| {
            let dry = builder.clone().with_http_connector(no_network);
            Ok(vec![shared(dry.clone().build())?, shared(dry.with_skip_signature(true).build())?])
        });
        let trial = trial.map_err(cannot)?;
        let store = shared(builder.with_http_connector(self.connector.clone()).build()).map_err(cannot)?;
        let abilities = Abilities { metadata: true, conditions: Conditions::Put, multipart: true };
        Ok(self.target(store, Some(trial), '_', abilities))
    }

    fn google(&self) -> Result<Target, TargetError> {
        let cannot = |error| self.cannot(error);
        let builder = GoogleCloudStorageBuilder::from_env().with_url(self.url).with_retry(retries());
        let builder = builder.with_client_options(options());
        let trial = Trial::new(|no_network| {
            let dry = builder.clone().with_http_connector(no_network);
            Ok(vec![shared(dry.clone().build())?, shared(dry.with_skip_signature(true).build())?])
        });
        let trial = trial.map_err(cannot)?;
        let store = shared(builder.with_http_connector(self.connector.clone()).build()).map_err(cannot)?;
        let abilities = Abilities { metadata: true, conditions: Conditions::Put, multipart: true };
        Ok(self.target(store, Some(trial), '-', abilities))
    }

    fn http(&self) -> Result<Target, TargetError> {
        let cannot = |error| self.cannot(error);
        let host = &self.parsed[..url::Position::BeforePath];
        let options = with_login(options().with_allow_http(self.parsed.scheme() == "http"), &cannot)?;
        let builder = HttpBuilder::new().with_url(host).with_client_options(options).with_retry(retries());
        let dry = builder.clone();
        let trial = Trial::new(|no_network| Ok(vec![shared(dry.with_http_connector(no_network).build())?]));
        let trial = trial.map_err(cannot)?;
        let store = shared(builder.with_http_connector(self.connector.clone()).build()).map_err(cannot)?;
        let abilities = Abilities { metadata: false, conditions: Conditions::None, multipart: false };
        Ok(self.target(store, Some(trial), '-', abilities))
    }

    fn local(&self) -> Result<Target, TargetError> {
        let folder = self.parsed.to_file_path().map_err(|()| TargetError::Url(self.url.to_owned()))?;
        if !self.url.trim_end().ends_with('/') && folder.parent().is_none() {
            // `file:` alone would be the root of the file system
            return Err(TargetError::Url(self.url.to_owned()));
        }
        let opened = TargetFolder::open_or_make(&folder)
            .map_err(|source| TargetError::Folder { folder: folder.clone(), source })?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| self.cannot(error))?.with_fsync(true);
        let abilities = Abilities { metadata: false, conditions: Conditions::Create, multipart: true };
        Ok(Target { names: Names::Local, folder: Some(opened), ..self.target(Arc::new(store), None, '-', abilities) })
    }
}

fn shared(store: object_store::Result<impl ObjectStore>) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(store?))
}

impl Target {
    /// Where the files go, for the group's purpose.
    pub(super) fn place(&self) -> Place {
        match (&self.folder, &self.endpoint) {
            (Some(folder), _) => Place::StoreFolder(folder.path().to_owned()),
            (None, Some(endpoint)) => Place::Url(format!("{} at {}", self.shown, without_tls(endpoint))),
            (None, None) => Place::Url(without_tls(&self.shown).to_owned()),
        }
    }

    /// Is set once a group may know where the files go.
    pub(super) fn is_kept(&self) -> Arc<AtomicBool> {
        self.folder.as_ref().map(TargetFolder::is_kept).unwrap_or_default()
    }

    /// Whether the same version can be told from another one.
    pub(super) fn tells_versions(&self) -> bool {
        self.abilities.metadata || self.folder.is_some()
    }

    /// Looks whether a local folder is still the one that it was.
    pub(super) fn check_folder(&self) -> Result<(), ProcessingError> {
        self.folder.as_ref().map_or(Ok(()), |folder| folder.was_cleared().map(drop))
    }

    /// Why nothing is put at this key, where something of a program's lies there.
    pub(super) fn refusal(&self, key: &Path, file: &DownloadDataFile) -> Option<String> {
        let folder = self.folder.as_ref()?.path();
        taken(folder, key.as_ref(), file.own_files())
    }

    /// Whether an object of the file's size, without metadata, holds the file's content. Only a local folder is
    /// read for that.
    pub(super) fn has_content(&self, key: &Path, file: &DownloadDataFile) -> Result<bool, ProcessingError> {
        let Some(folder) = &self.folder else { return Ok(false) };
        let unreadable = |error: std::io::Error| {
            ProcessingError::not_available(format_args!("cannot read `{key}` in `{}`: {error}", self.shown))
        };
        let mut there = std::fs::File::open(folder.path().join(key.as_ref())).map_err(unreadable)?;
        let mut hasher = datamill_wire::Sha512Hasher::new();
        let mut block = vec![0; 1 << 20];
        loop {
            match there.read(&mut block).map_err(unreadable)? {
                0 => return Ok(hasher.finish() == *file.sha512()),
                read => hasher.update(&block[..read]),
            }
        }
    }

    /// Looks whether requests can be made of the settings.
    pub(super) fn check_settings(&self, runtime: &Runtime) -> Result<(), TargetError> {
        let key = self.prefix.clone().join("trial");
        if self.trial.as_ref().is_none_or(|trial| trial.makes_requests(&key, runtime)) {
            return Ok(());
        }
        let places = match &self.orphans {
            Some(_) => {
                "section `[s3]` of the configuration, the variables `AWS_…` of the environment, and the AWS profile"
            }
            None => "the URL and the environment variables of the store",
        };
        let reason = format!(
            "no request can be made of its settings. Look for spaces and other characters that do not belong there in the \
             address, the region and the keys: in {places}"
        );
        Err(TargetError::Settings { store: self.shown.clone(), reason })
    }

    /// Looks whether the store is there and lets us in, as far as it can be asked without writing. A store
    /// that does not answer is none of this function's errors.
    pub(super) async fn check(&self) -> Result<(), TargetError> {
        let Some(orphans) = &self.orphans else { return Ok(()) };
        let cannot = |reason: String| Err(TargetError::Settings { store: self.shown.clone(), reason });
        match orphans.ask().await {
            Err(OrphanError::Sign(error)) => cannot(format!(
                "there are no credentials ({}): put `access_key_id` and `secret_key_id` into section `[s3]` of the \
                configuration, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                failure::said(&error)
            )),
            Err(OrphanError::Refused { said, .. }) => match FOR_GOOD.iter().find(|(code, _)| said.starts_with(code)) {
                Some((_, check)) => cannot(format!("{}. Check {check}", said.trim_end_matches('.'))),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Answers to a question that only the set-up can be the reason of, and what to look at. That we may not list is none.
const FOR_GOOD: [(&str, &str); 6] = [
    ("NoSuchBucket", "the name of the bucket and `endpoint_url`, or make the bucket"),
    ("InvalidAccessKeyId", "`access_key_id` in section `[s3]`, or AWS_ACCESS_KEY_ID"),
    ("SignatureDoesNotMatch", "`secret_key_id` in section `[s3]`, or AWS_SECRET_ACCESS_KEY"),
    ("InvalidBucketName", "the name of the bucket"),
    ("ExpiredToken", "the session token: it needs to be a new one"),
    ("AuthorizationHeaderMalformed", "`region` in section `[s3]`, or AWS_REGION"),
];

/// Requests have their own time limit, by size: see [`super::connector`].
fn options() -> ClientOptions {
    let agent = http::HeaderValue::from_static(concat!("datamill/", env!("CARGO_PKG_VERSION")));
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(Duration::from_secs(5)).with_user_agent(agent)
}

/// A hiccup is bridged here; whatever lasts longer is the engine's, which holds and says so.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(3),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_secs(20),
    }
}

/// What is given in `[s3]` counts before the environment, and that before the shared profile. Credentials
/// belong together: they come from one of the three.
fn s3(url: &Url, section: Option<&BTreeMap<String, String>>) -> Result<AmazonS3Builder, TargetError> {
    use AmazonS3ConfigKey as Key;
    let is_credential = |key: &Key| matches!(key, Key::AccessKeyId | Key::SecretAccessKey | Key::Token);
    let mut given = Vec::new();
    for (name, value) in section.into_iter().flatten() {
        let known = if name == SECRET_KEY_ID { "secret_access_key" } else { name };
        let key: Key = known.to_lowercase().parse().map_err(|_| TargetError::Key(name.clone()))?;
        given.push((key, value.clone()));
    }
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?.to_lowercase();
        let key: Key = name.starts_with("aws_").then(|| name.parse().ok()).flatten()?;
        Some((key, value.to_str()?.to_owned()))
    });
    let mut settings: Vec<(Key, String)> = environment.collect();
    if given.iter().any(|(key, _)| is_credential(key)) {
        settings.retain(|(key, _)| !is_credential(key));
    }
    settings.extend(given);
    let others = |key: &Key| {
        matches!(key, Key::WebIdentityTokenFile | Key::SkipSignature)
            || matches!(key, Key::ContainerCredentialsRelativeUri | Key::ContainerCredentialsFullUri)
    };
    let has_credentials = settings.iter().any(|(key, _)| is_credential(key) || others(key));
    let from_profile = profile::load(has_credentials)?;
    for (key, value) in from_profile {
        let here = if is_credential(&key) { has_credentials } else { settings.iter().any(|(known, _)| *known == key) };
        if !here {
            settings.push((key, value));
        }
    }
    let mut builder = AmazonS3Builder::new().with_client_options(options()).with_retry(retries());
    // The signature covers the checksum, and that the payload: the store need not hash it a second time.
    builder = builder.with_checksum_algorithm(Checksum::SHA256).with_unsigned_payload(true).with_url(url.as_str());
    for (key, mut value) in settings {
        if matches!(key, Key::Endpoint | Key::S3Endpoint) {
            value = address(value).map_err(|why| TargetError::Address { store: url.to_string(), why })?;
            builder = builder.with_allow_http(value.starts_with("http://"));
        }
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// The address without what says how it is spoken to: that may be mended, and the store is the same.
fn without_tls(url: &str) -> &str {
    url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url)
}

/// The URL of an endpoint; OpenMSIStream's configuration files name hosts alone. `object_store` takes any text and
/// panics at the first request. The text is not repeated in errors, since it may hold a password.
fn address(endpoint: String) -> Result<String, String> {
    if endpoint.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    let endpoint = if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
    let url = Url::parse(&endpoint).map_err(|error| format!("is no URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("begins with `{}://`", url.scheme()));
    }
    // what is parsed leaves superfluous slashes out, the client does not
    match endpoint.split_once("://") {
        Some((_, rest)) if !rest.starts_with('/') => Ok(endpoint),
        _ => Err("names no host".to_owned()),
    }
}

/// The name and password for a WebDAV server.
fn with_login(
    options: ClientOptions,
    cannot: &impl Fn(object_store::Error) -> TargetError,
) -> Result<ClientOptions, TargetError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(user), Some(password)) = (variable("DATAMILL_HTTP_USER"), variable("DATAMILL_HTTP_PASSWORD")) else {
        return Ok(options);
    };
    use base64::Engine;
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = http::HeaderValue::from_str(&format!("Basic {login}")).map_err(|_| {
        cannot(object_store::Error::Generic { store: "HTTP", source: "the login cannot be sent".into() })
    })?;
    value.set_sensitive(true);
    Ok(options.with_default_headers(http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])))
}
