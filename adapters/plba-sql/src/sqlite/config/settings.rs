//! What a location of configuration says: the file, and how often it is looked at.

use std::path::PathBuf;
use std::time::Duration;

use plba_contracts::config::Location;

use crate::config::on_or_off;

/// Where configuration lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) poll: Duration,
    /// Whether a file or table that is missing is made.
    pub(super) create: bool,
}

impl Settings {
    /// Reads a `sqlite:` location.
    pub(super) fn read(location: &Location) -> Result<Self, String> {
        let Some(path) = location.path() else {
            return Err(format!(
                "\"{location}\" names no file; write it as \"sqlite:var/config.db\""
            ));
        };
        let mut settings = Self {
            path: path.into(),
            poll: Duration::from_secs(1),
            create: false,
        };
        for (name, value) in location.query() {
            match name {
                "poll" => {
                    let number = value.parse();
                    settings.poll = Duration::from_millis(
                        number.map_err(|_| format!("poll takes a whole number of milliseconds, not \"{value}\""))?,
                    );
                }
                "create" => settings.create = on_or_off(value)?,
                _ => {
                    return Err(format!(
                        "configuration in \"sqlite:\" knows no \"{name}\", but create, poll"
                    ));
                }
            }
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&settings.poll) {
            return Err("poll lies between 1 ms and a minute (60000)".to_owned());
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_location_says_is_read_and_faults_are_named() {
        let settings = Settings::read(&Location::from("sqlite:var/config.db?poll=250&create=on")).unwrap();
        assert_eq!((settings.path, settings.create), (PathBuf::from("var/config.db"), true));
        assert_eq!(settings.poll, Duration::from_millis(250));
        for (location, says) in [
            ("sqlite:", "names no file"),
            ("sqlite://host/file", "names no file"),
            ("sqlite:c.db?poll=soon", "whole number of milliseconds, not \"soon\""),
            ("sqlite:c.db?poll=0", "poll lies between"),
            ("sqlite:c.db?create=yes", "create is on or off"),
            ("sqlite:c.db?lease=30", "knows no \"lease\", but create, poll"),
        ] {
            let refused = Settings::read(&Location::from(location)).unwrap_err();
            assert!(refused.contains(says), "{location}: {refused}");
        }
    }
}
