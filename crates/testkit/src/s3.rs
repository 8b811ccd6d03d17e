//! Real S3 servers for tests: those that all tests of a run share, or one of a test's own that may be
//! killed; and a look at what is in a bucket, with a client that is not the one under test. Tests that need
//! a server fail without it; they never skip.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Attribute, GetOptions, ObjectStore, ObjectStoreExt};
use reqwest::Method;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Names the versitygw that the tests of a run share, as a URL.
pub const SHARED: &str = "DATAMILL_TEST_S3";
/// Names the S3Proxy that the tests of a run share.
pub const SHARED_PROXY: &str = "DATAMILL_TEST_S3PROXY";
/// What all servers of the tests let in.
pub const ACCESS_KEY: &str = "datamill";
/// Its secret.
pub const SECRET_KEY: &str = "datamill-secret";

/// A server that runs. One of a test's own is stopped when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    url: String,
    folder: Option<TempDir>,
}

impl S3Server {
    /// The server that `DATAMILL_TEST_S3` names. Panics where it is not set.
    pub fn from_env() -> Self {
        Self::named(SHARED)
    }

    /// The server that `DATAMILL_TEST_S3PROXY` names. Panics where it is not set.
    pub fn proxy_from_env() -> Self {
        Self::named(SHARED_PROXY)
    }

    fn named(variable: &str) -> Self {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("no S3 server: run dev/test, or set {variable} to a URL"));
        Self { url, folder: None }
    }

    /// Starts a versitygw on a free port in a temporary folder, with `dev/s3`.
    pub fn start_own() -> Self {
        let folder = tempfile::Builder::new().prefix("datamill-s3-").tempdir().expect("a temporary folder can be made");
        let mut server = Self { url: String::new(), folder: Some(folder) };
        server.url = server.run("start");
        server
    }

    /// `http://host:port`, the value for `endpoint_url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server with SIGKILL. Only for one that this test started.
    pub fn kill9(&self) {
        self.run("kill9");
    }

    /// Starts the server again after [`S3Server::kill9`], on the same port with the same data.
    pub fn restart(&self) {
        self.run("restart");
    }

    /// Halts the server, so that nothing is answered until [`S3Server::go_on`]. Only for one that this test started.
    pub fn halt(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets a halted server go on.
    pub fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let folder = self.folder.as_ref().expect("only a server of the test's own is halted");
        let pid = std::fs::read_to_string(folder.path().join("pid")).expect("dev/s3 notes the process");
        let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("the number of a process");
        rustix::process::kill_process(pid, signal).expect("the server is there");
    }

    /// A bucket of this name, made anew.
    pub fn bucket(&self, name: &str) -> Bucket {
        let bucket = self.bucket_unmade(name);
        let (status, answer) = bucket.request(Method::PUT, "", &[]);
        assert!((200..300).contains(&status), "bucket `{name}` cannot be made: {status} {answer}");
        bucket
    }

    /// A look at a bucket that is there already, or is not.
    pub fn bucket_unmade(&self, name: &str) -> Bucket {
        // One that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_endpoint(&self.url)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(name)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()
            .expect("the settings are right");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        Bucket { name: name.to_owned(), store, runtime }
    }

    fn run(&self, command: &str) -> String {
        let folder = self.folder.as_ref().expect("only a server of the test's own is killed and restarted");
        let output = script(command, folder).output().expect("dev/s3 can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dev/s3 {command}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // Nothing of it is kept, so it need not be ended gently. It may be dead already.
            let _ = script("kill9", folder).output();
        }
    }
}

fn script(command: &str, folder: &TempDir) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dev/s3");
    let mut script = Command::new(path);
    script.arg(command).arg(folder.path());
    script.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    script
}

/// A bucket and what is in it.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    store: AmazonS3,
    runtime: Runtime,
}

/// An object: its content, and its metadata without the prefix of S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub content: Vec<u8>,
    /// The metadata of its maker.
    pub metadata: BTreeMap<String, String>,
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All objects by their keys.
    pub fn objects(&self) -> BTreeMap<String, Object> {
        self.keys().into_iter().map(|key| (key.clone(), self.object(&key).expect("it was listed"))).collect()
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        let listed = self.runtime.block_on(async {
            use futures_util::TryStreamExt;
            self.store.list(None).try_collect::<Vec<_>>().await
        });
        let mut keys: Vec<String> =
            listed.expect("the bucket can be listed").into_iter().map(|meta| meta.location.to_string()).collect();
        keys.sort_unstable();
        keys
    }

    /// One object; `None` where there is none.
    pub fn object(&self, key: &str) -> Option<Object> {
        let path = Path::parse(key).expect("a key of the tests is right");
        let got = self.runtime.block_on(async {
            let got = self.store.get_opts(&path, GetOptions::default()).await?;
            let attributes = got.attributes.clone();
            Ok::<_, object_store::Error>((attributes, got.bytes().await?))
        });
        let (attributes, content) = match got {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return None,
            Err(error) => panic!("`{key}` cannot be read: {error}"),
        };
        let metadata = attributes.iter().filter_map(|(name, value)| match name {
            Attribute::Metadata(name) => Some((name.to_string(), value.as_ref().to_owned())),
            _ => None,
        });
        Some(Object { metadata: metadata.collect(), content: content.to_vec() })
    }

    /// Puts an object as somebody else would.
    pub fn put(&self, key: &str, content: &[u8]) {
        let path = Path::parse(key).expect("a key of the tests is right");
        let put = self.runtime.block_on(self.store.put(&path, content.to_vec().into()));
        put.expect("an object can be put");
    }

    /// Begins a multipart upload, sends a part of it, and leaves it.
    pub fn leave_upload(&self, key: &str) {
        use object_store::multipart::MultipartStore;
        let path = Path::parse(key).expect("a key of the tests is right");
        let left = self.runtime.block_on(async {
            let id = self.store.create_multipart(&path).await?;
            self.store.put_part(&path, &id, 0, vec![1; 5 << 20].into()).await
        });
        left.expect("an upload can be begun");
    }

    /// The keys of the multipart uploads that were begun and neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> Vec<String> {
        let (status, answer) = self.request(Method::GET, "", &[("uploads", "")]);
        assert!((200..300).contains(&status), "uploads cannot be listed: {status} {answer}");
        let uploads = answer.split("<Upload>").skip(1);
        let key = |upload: &str| Some(upload.split_once("<Key>")?.1.split_once("</Key>")?.0.to_owned());
        uploads.map(|upload| key(upload).expect("an upload has a key")).collect()
    }

    /// How many parts of such an upload of a key have arrived.
    pub fn parts_that_arrived(&self, key: &str) -> usize {
        let (_, answer) = self.request(Method::GET, "", &[("uploads", "")]);
        let of_key = |upload: &&str| upload.contains(&format!("<Key>{key}</Key>"));
        let Some(upload) = answer.split("<Upload>").skip(1).find(of_key) else { return 0 };
        let id = upload.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        let (id, _) = id.expect("an upload has a number");
        let (status, answer) = self.request(Method::GET, key, &[("uploadId", id)]);
        assert!((200..300).contains(&status), "parts cannot be listed: {status} {answer}");
        answer.matches("<PartNumber>").count()
    }

    /// A request that `object_store` does not know: its status and its answer.
    fn request(&self, method: Method, key: &str, query: &[(&str, &str)]) -> (u16, String) {
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        self.runtime.block_on(async {
            let path = Path::parse(key).expect("a key of the tests is right");
            let store: Arc<dyn Signer> = Arc::new(self.store.clone());
            let url = store.signed_url_opts(method.clone(), &path, Duration::from_secs(60), &options).await;
            let client = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
            let answer = client.request(method, url.expect("a URL can be signed")).send().await;
            let answer = answer.expect("the server answers");
            (answer.status().as_u16(), answer.text().await.expect("the answer is a text"))
        })
    }
}
