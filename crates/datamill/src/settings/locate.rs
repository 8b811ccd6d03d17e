//! Finds and reads the configuration file that `--config` names.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::SettingsError;

/// The environment variable that names the folder of configuration files.
pub const CONFIG_DIR_VARIABLE: &str = "OPENMSISTREAM_CONFIG_FILE_DIR";

/// The first of these that is a file: the path itself, `name.config` in the current folder for a name without a
/// dot, then `name` and `name.config` in `folder`.
pub(super) fn locate(name: &str, folder: Option<OsString>) -> Result<PathBuf, SettingsError> {
    let mut looked = vec![PathBuf::from(name)];
    if !name.contains('.') {
        looked.push(PathBuf::from(format!("{name}.config")));
    }
    let folder = folder.filter(|folder| !folder.is_empty());
    let folder_is_set = folder.is_some();
    if let Some(folder) = folder.map(PathBuf::from) {
        looked.push(folder.join(name));
        looked.push(folder.join(format!("{name}.config")));
    }
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(SettingsError::NotFound { name: name.to_owned(), looked, folder_is_set }),
    }
}

/// The text of the file, without the mark that some editors put before UTF-8.
pub(super) fn read(path: &Path) -> Result<String, SettingsError> {
    let bytes = fs::read(path).map_err(|source| SettingsError::Unreadable { file: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        SettingsError::NotText { file: path.to_owned(), line: 1 + good.iter().filter(|&&byte| byte == b'\n').count() }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
