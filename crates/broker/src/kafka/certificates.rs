//! The files of an encrypted connection, opened before librdkafka opens them: its words for a file that is not there,
//! is no certificate or has another password are those of OpenSSL, and name neither the path nor the setting.

use std::fs;
use std::io;
use std::path::Path;

use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use sha2::{Digest, Sha256};

use super::config::View;
use super::failure::Reason;
use super::login::Protocol;
use crate::error::{Error, ErrorKind, Result};

const KEY_PASSWORD: &str = "ssl.key.password";
const KEYSTORE_PASSWORD: &str = "ssl.keystore.password";

/// Refuses what librdkafka could not use.
pub(super) fn check(view: View<'_>) -> Result<()> {
    if !Protocol::of(view).encrypted {
        return Ok(());
    }
    for key in ["ssl.ca.location", "ssl.crl.location"] {
        // A folder of authorities is one of links that OpenSSL looks into by itself.
        let path =
            view.get(key).filter(|path| *path != "probe" && !(key == "ssl.ca.location" && Path::new(path).is_dir()));
        if let Some(path) = path {
            let file = Material::read(key, path)?;
            let (block, what) = match key {
                "ssl.ca.location" => ("CERTIFICATE-----", "certificate"),
                _ => (" CRL-----", "list of certificates that were called back"),
            };
            file.require_block(block, what)?;
        }
    }
    let certificate = Material::of(view, "ssl.certificate.location", "ssl.certificate.pem")?;
    let certificate = certificate.map(|file| file.certificate().map(|certificate| (file, certificate))).transpose()?;
    let key = Material::of(view, "ssl.key.location", "ssl.key.pem")?;
    let key = key.map(|file| file.private_key(view.get(KEY_PASSWORD)).map(|key| (file, key))).transpose()?;
    if let (Some((certificate_in, certificate)), Some((key_in, key))) = (certificate, key)
        && certificate.public_key().is_ok_and(|public| !public.public_eq(&key))
    {
        return Err(refused(format!(
            "the key in {} does not belong to the certificate in {}",
            key_in.name, certificate_in.name
        )));
    }
    match view.get("ssl.keystore.location") {
        Some(path) => Material::read("ssl.keystore.location", path)?.open_keystore(view.get(KEYSTORE_PASSWORD)),
        None => Ok(()),
    }
}

/// Tells whether the file of authorities is still the same; `None` where there is none that can be read.
pub(super) fn authorities(view: View<'_>) -> Option<[u8; 32]> {
    let file = fs::read(view.get("ssl.ca.location")?).ok()?;
    Some(Sha256::digest(file).into())
}

/// What a setting of the encryption names, or holds.
struct Material {
    /// The path with the name of the setting.
    name: String,
    bytes: Vec<u8>,
}

impl Material {
    /// What is in the file that one setting names, or in the value of the other.
    fn of(view: View<'_>, location: &str, pem: &str) -> Result<Option<Self>> {
        match (view.get(location), view.get(pem)) {
            (Some(path), _) => Self::read(location, path).map(Some),
            (None, Some(text)) => Ok(Some(Self { name: format!("`{pem}`"), bytes: text.as_bytes().to_vec() })),
            (None, None) => Ok(None),
        }
    }

    fn read(key: &str, path: &str) -> Result<Self> {
        let name = format!("`{path}`, which `{key}` names,");
        if Path::new(path).is_dir() {
            return Err(refused(format!("{name} is a folder: name the file in it")));
        }
        match fs::read(path) {
            Ok(bytes) => Ok(Self { name, bytes }),
            Err(error) => {
                let text = match error.kind() {
                    io::ErrorKind::NotFound if Path::new(path).is_relative() => {
                        format!("{name} is not there; a relative path begins at the current folder")
                    }
                    io::ErrorKind::NotFound => format!("{name} is not there"),
                    io::ErrorKind::PermissionDenied => {
                        format!("{name} may not be read by the user that runs this program")
                    }
                    _ => return Err(Error::with_source(ErrorKind::Settings, format!("{name} cannot be read"), error)),
                };
                Err(refused(text))
            }
        }
    }

    /// Refuses a file without a block whose first line ends like this.
    fn require_block(&self, end: &str, what: &str) -> Result<()> {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(end)) {
            return Ok(());
        }
        let hint = match text.contains("-----BEGIN ") {
            true => "",
            false => "; `openssl x509` and `openssl pkcs12` convert other forms",
        };
        Err(refused(format!("{} holds no {what} in PEM form (`-----BEGIN …{end}`){hint}", self.name)))
    }

    fn certificate(&self) -> Result<X509> {
        self.require_block("CERTIFICATE-----", "certificate")?;
        X509::from_pem(&self.bytes).map_err(|error| self.damaged("certificate", &error))
    }

    fn private_key(&self, password: Option<&str>) -> Result<PKey<Private>> {
        self.require_block("PRIVATE KEY-----", "private key")?;
        let is_encrypted = String::from_utf8_lossy(&self.bytes).contains("ENCRYPTED");
        match (is_encrypted, password) {
            (false, _) => PKey::private_key_from_pem(&self.bytes).map_err(|error| self.damaged("private key", &error)),
            (true, None) => Err(refused(format!("the key in {} is encrypted: set `{KEY_PASSWORD}`", self.name))),
            (true, Some(password)) => {
                PKey::private_key_from_pem_passphrase(&self.bytes, password.as_bytes()).map_err(|_| {
                    refused(format!("the key in {} cannot be decrypted: is `{KEY_PASSWORD}` right?", self.name))
                })
            }
        }
    }

    fn open_keystore(&self, password: Option<&str>) -> Result<()> {
        let store = Pkcs12::from_der(&self.bytes).map_err(|_| {
            let name = &self.name;
            refused(format!(
                "{name} is no keystore in PKCS #12 form: `keytool -importkeystore -deststoretype PKCS12` makes one"
            ))
        })?;
        match store.parse2(password.unwrap_or_default()) {
            Ok(_) => Ok(()),
            Err(_) if password.is_none() => {
                Err(refused(format!("{} cannot be opened: set `{KEYSTORE_PASSWORD}`", self.name)))
            }
            Err(error) => Err(Error::with_source(
                ErrorKind::Settings,
                format!("{} cannot be opened: is `{KEYSTORE_PASSWORD}` right?", self.name),
                Reason(error.to_string()),
            )),
        }
    }

    fn damaged(&self, what: &str, error: &openssl::error::ErrorStack) -> Error {
        Error::with_source(
            ErrorKind::Settings,
            format!("the {what} in {} is damaged", self.name),
            Reason(error.to_string()),
        )
    }
}

fn refused(text: String) -> Error {
    Error::new(ErrorKind::Settings, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::symm::Cipher;
    use tempfile::TempDir;

    use super::*;

    struct Folder(TempDir);

    impl Folder {
        fn write(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.display().to_string()
        }
    }

    fn pair() -> (PKey<Private>, X509) {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut certificate = X509::builder().unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        (key, certificate.build())
    }

    fn checked(pairs: &[(&str, &str)]) -> Result<()> {
        let own: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let broker = BTreeMap::from([("security.protocol".to_owned(), "SASL_SSL".to_owned())]);
        check(View::new(&own, &broker))
    }

    fn refusal(pairs: &[(&str, &str)], parts: &[&str]) {
        let error = checked(pairs).unwrap_err();
        let text = format!("{error:?}");
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        assert!(!text.contains("hunter"), "{text}");
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_the_reason() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (key, certificate) = pair();
        let pem = certificate.to_pem().unwrap();
        let trusted = folder.write("ca.pem", &pem);
        let binary = folder.write("ca.der", &certificate.to_der().unwrap());
        let plain = folder.write("key.pem", &key.private_key_to_pem_pkcs8().unwrap());
        let cut = folder.write("cut.pem", &[&pem[..100], b"\n-----END CERTIFICATE-----\n"].concat());
        let here = folder.0.path().display().to_string();
        let missing = format!("{here}/missing.pem");
        for key in ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location"] {
            refusal(&[(key, &missing)], &[&missing, key, "is not there"]);
            refusal(&[(key, "missing.pem")], &["missing.pem", key, "a relative path begins at the current folder"]);
        }
        refusal(&[("ssl.key.location", &here)], &[&here, "is a folder"]);
        refusal(&[("ssl.ca.location", &binary)], &[&binary, "no certificate in PEM form", "`openssl x509`"]);
        refusal(&[("ssl.ca.location", &plain)], &[&plain, "no certificate in PEM form"]);
        refusal(&[("ssl.key.location", &trusted)], &[&trusted, "no private key in PEM form"]);
        refusal(&[("ssl.certificate.location", &cut)], &[&cut, "is damaged"]);
        refusal(&[("ssl.keystore.location", &trusted)], &[&trusted, "no keystore in PKCS #12 form"]);
        refusal(&[("ssl.key.pem", "hunter2")], &["`ssl.key.pem`", "no private key"]);
        for trusted in [trusted.as_str(), here.as_str(), "probe", ""] {
            checked(&[("ssl.ca.location", trusted)]).unwrap();
        }
        // without encryption, nothing of it is opened
        let view = BTreeMap::from([("ssl.ca.location".to_owned(), missing)]);
        check(View::new(&view, &BTreeMap::new())).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_may_not_be_read_is_named() {
        use std::os::unix::fs::PermissionsExt;

        let folder = Folder(tempfile::tempdir().unwrap());
        let path = folder.write("ca.pem", &pair().1.to_pem().unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        // The administrator reads everything.
        match fs::read(&path) {
            Ok(_) => checked(&[("ssl.ca.location", &path)]).unwrap(),
            Err(_) => refusal(&[("ssl.ca.location", &path)], &[&path, "may not be read by the user"]),
        }
    }

    #[test]
    fn passwords_of_keys_and_keys_of_other_certificates_are_told_apart() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let ((key, certificate), (other, _)) = (pair(), pair());
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"hunter2").unwrap();
        let locked = folder.write("locked.pem", &encrypted);
        let of_other = folder.write("other.pem", &other.private_key_to_pem_pkcs8().unwrap());
        let own = folder.write("own.pem", &certificate.to_pem().unwrap());
        let (certificate_is, key_is) =
            (("ssl.certificate.location", own.as_str()), ("ssl.key.location", locked.as_str()));
        refusal(&[certificate_is, key_is], &[&locked, "is encrypted: set `ssl.key.password`"]);
        let wrong = [certificate_is, key_is, ("ssl.key.password", "hunter3")];
        refusal(&wrong, &[&locked, "is `ssl.key.password` right?"]);
        checked(&[certificate_is, key_is, ("ssl.key.password", "hunter2")]).unwrap();
        refusal(&[certificate_is, ("ssl.key.location", &of_other)], &[&own, &of_other, "does not belong to"]);

        let store = Pkcs12::builder().pkey(&key).cert(&certificate).build2("hunter2").unwrap();
        let store = folder.write("store.p12", &store.to_der().unwrap());
        let store_is = ("ssl.keystore.location", store.as_str());
        refusal(&[store_is], &[&store, "set `ssl.keystore.password`"]);
        refusal(&[store_is, ("ssl.keystore.password", "hunter3")], &[&store, "is `ssl.keystore.password` right?"]);
        checked(&[store_is, ("ssl.keystore.password", "hunter2")]).unwrap();
    }
}
