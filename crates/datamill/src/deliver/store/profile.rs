//! The shared AWS profile (`~/.aws/credentials`, `~/.aws/config`), which `object_store` does not read.
//!
//! Keys, region and endpoint are taken; profiles that say how to get keys (roles, single sign-on, a command)
//! are not followed.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::PathBuf;

use object_store::aws::AmazonS3ConfigKey as Key;

const PROFILE: &str = "AWS_PROFILE";

/// Why the profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A file is there and cannot be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The profile that was asked for holds no keys.
    #[error(
        "the AWS profile `{0}`, which AWS_PROFILE names, holds no `aws_access_key_id`; profiles that say how to get \
        keys (role_arn, sso_session, credential_process) are not followed: put the keys they give into the environment"
    )]
    NoKeys(String),
}

/// What the profile says: the one that `AWS_PROFILE` names, or `default` where there is one. One that is named
/// must hold keys if none are `given` elsewhere.
pub(super) fn load(given: bool) -> Result<Vec<(Key, String)>, ProfileError> {
    let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
    let config = read("AWS_CONFIG_FILE", "config")?;
    let asked_for = env::var(PROFILE).ok().filter(|name| !name.is_empty());
    let found = settings(&credentials, &config, asked_for.as_deref().unwrap_or("default"));
    match asked_for {
        Some(name) if !given && !found.iter().any(|(key, _)| *key == Key::AccessKeyId) => {
            Err(ProfileError::NoKeys(name))
        }
        _ => Ok(found),
    }
}

/// The file that a variable names, or the one of this name in the folder `.aws` of the user. One that is not
/// there says nothing.
fn read(variable: &str, name: &str) -> Result<String, ProfileError> {
    let usual = || env::home_dir().map(|home| home.join(".aws").join(name));
    let Some(file) = env::var_os(variable).map(PathBuf::from).or_else(usual) else { return Ok(String::new()) };
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(ProfileError::Read { file, source }),
    }
}

fn settings(credentials: &str, config: &str, profile: &str) -> Vec<(Key, String)> {
    let named = if profile == "default" { profile.to_owned() } else { format!("profile {profile}") };
    let mut values = section(config, &named);
    values.extend(section(credentials, profile));
    [
        ("aws_access_key_id", Key::AccessKeyId),
        ("aws_secret_access_key", Key::SecretAccessKey),
        ("aws_session_token", Key::Token),
        ("region", Key::Region),
        ("endpoint_url", Key::Endpoint),
    ]
    .into_iter()
    .filter_map(|(name, key)| Some((key, values.remove(name)?)))
    .collect()
}

/// The keys of one section. Indented lines belong to a key of their own kind, which is not ours.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(header) = line.trim_end().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = header.split_whitespace().eq(name.split_whitespace());
        } else if let (true, Some((key, value))) =
            (inside && !line.starts_with([' ', '\t', '#', ';']), line.split_once('='))
        {
            values.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=S=x/+\n\n[lab]\n\
        aws_access_key_id=B\naws_secret_access_key=T\naws_session_token = U\n";
    const CONFIG: &str = "[default]\nregion = eu-central-1\ns3 =\n  region = nested\n# region = no\n\
        [profile  lab]\nregion=us-east-2\nendpoint_url = http://127.0.0.1:9000\n[lab]\nregion = not this\n";

    #[test]
    fn keys_region_and_endpoint_are_those_of_the_profile() {
        let text = |profile| {
            let mut found: Vec<String> = settings(CREDENTIALS, CONFIG, profile).into_iter().map(|(_, v)| v).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(text("default"), ["A", "S=x/+", "eu-central-1"]);
        assert_eq!(text("lab"), ["B", "T", "U", "http://127.0.0.1:9000", "us-east-2"]);
        assert_eq!(text("other"), [""; 0]);
    }
}
