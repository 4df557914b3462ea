//! The admin's token: read where it is configured, else made at first start and kept in the state directory, readable by
//! this user only.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use plba_contracts::secret::Secret;

use crate::platform::ControlConfig;
use crate::state::write_private;

/// The token's file in the state directory.
pub const FILE: &str = "control.token";

/// The fewest characters of a token that somebody else has chosen.
const SHORTEST: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read or written.
    #[error("the control token {path} can't be {doing}: {source}; check the file's owner and rights")]
    File {
        /// The file.
        path: String,
        /// `read` or `written`.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configured token is too short to be one.
    #[error("the control token in {0} is shorter than {SHORTEST} characters; make one with `openssl rand -hex 32`")]
    Short(String),
}

/// Where the admin's token is to be found, for people.
pub fn path(config: &ControlConfig, state: &Path) -> String {
    match (&config.token, &config.token_file) {
        (Some(_), _) => "the configuration".into(),
        (None, Some(path)) => path.as_path().display().to_string(),
        (None, None) => state.join(FILE).display().to_string(),
    }
}

/// The admin's token: configured, kept, or made now.
///
/// # Errors
/// A file can't be read or written, or a configured token is too short.
pub fn of(config: &ControlConfig, state: &Path) -> Result<Secret, TokenError> {
    if let Some(token) = &config.token {
        return Ok(token.clone());
    }
    if let Some(path) = &config.token_file {
        return read(path.as_path());
    }
    let path = state.join(FILE);
    match read(&path) {
        Ok(token) => Ok(token),
        Err(TokenError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => make(&path),
        // A file that was cut short, by a full disk say, is no token; a new one costs nobody anything.
        Err(TokenError::Short(_)) => make(&path),
        Err(error) => Err(error),
    }
}

/// The token that a running process in this state directory made, for the command line.
///
/// # Errors
/// As [`of`], but nothing is made.
pub fn existing(config: &ControlConfig, state: &Path) -> Result<Secret, TokenError> {
    match (&config.token, &config.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(path)) => read(path.as_path()),
        (None, None) => read(&state.join(FILE)),
    }
}

fn read(path: &Path) -> Result<Secret, TokenError> {
    let failed = |source| TokenError::File {
        path: path.display().to_string(),
        doing: "read",
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    if token.len() < SHORTEST {
        return Err(TokenError::Short(path.display().to_string()));
    }
    Ok(Secret::from(token))
}

fn make(path: &Path) -> Result<Secret, TokenError> {
    let failed = |source| TokenError::File {
        path: path.display().to_string(),
        doing: "written",
        source,
    };
    let mut random = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(failed)?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(path, format!("{token}\n").as_bytes()).map_err(failed)?;
    Ok(Secret::from(token))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_for_this_user() {
        let directory = std::env::temp_dir().join(format!("plba-token-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let config = ControlConfig::default();
        let first = of(&config, &directory).unwrap();
        assert_eq!(first.expose().len(), 64);
        assert_eq!(of(&config, &directory).unwrap().expose(), first.expose());
        assert_eq!(existing(&config, &directory).unwrap().expose(), first.expose());
        let mode = fs::metadata(directory.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(directory.join(FILE), "short").unwrap();
        assert_ne!(of(&config, &directory).unwrap().expose(), first.expose());
        fs::remove_dir_all(directory).unwrap();
    }
}
