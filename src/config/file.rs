//! The file that a configuration is read from, if there is one.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{ConfigErrors, FORBIDDEN, document::Mistake};
use crate::files;

/// A configuration file, and whether it has to exist.
#[derive(Debug, Clone)]
pub enum ConfigFile {
    /// It was asked for by name, so it has to exist.
    Named(PathBuf),
    /// Where it does not exist, every setting has its default.
    Default(PathBuf),
}

impl ConfigFile {
    /// Where it is, or would be.
    #[must_use]
    pub fn path(&self) -> &Path {
        let (Self::Named(path) | Self::Default(path)) = self;
        path
    }

    /// Whether it does not exist and does not have to.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        // A link to nowhere is there: somebody meant to have a configuration.
        matches!(self, Self::Default(path) if path.symlink_metadata().is_err_and(is_not_found))
    }

    /// Its text; `None` if it is absent.
    pub(super) fn read(&self) -> Result<Option<String>, ConfigErrors> {
        if self.is_absent() {
            return Ok(None);
        }
        read_text(self.path()).map(Some).map_err(|mistake| self.errors(true, vec![mistake]))
    }

    /// The report of its mistakes. Where it is not there, they are in none of its lines.
    pub(super) fn errors(&self, is_there: bool, mistakes: Vec<Mistake>) -> ConfigErrors {
        ConfigErrors { file: is_there.then(|| self.path().to_owned()), mistakes }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is called with what it gets")]
fn is_not_found(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn read_text(path: &Path) -> Result<String, Mistake> {
    let mistake = |line, text: String| Mistake { file: None, line, key: String::new(), text };
    let bytes = files::read(path).map_err(|error| {
        let another = "name another with --config.file FILE or CLOUDFLARE_CERT_EXPORTER_CONFIG_FILE";
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => format!("create it, or {another}"),
            io::ErrorKind::PermissionDenied => FORBIDDEN.to_owned(),
            _ => another.to_owned(),
        };
        mistake(None, format!("the configuration cannot be read: {error}; {remedy}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        mistake(Some(line), "the configuration is not UTF-8 text; save it as UTF-8".to_owned())
    })
}
