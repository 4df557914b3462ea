//! File names in a Maildir: the unique part, which names the message for good, and the flags behind it, which change.
//! See <https://cr.yp.to/proto/maildir.html>.

/// A file name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name<'n> {
    /// What stays the same whatever is done to the message: everything before the first colon.
    pub(crate) unique: &'n str,
    /// The flags in ASCII order, as in `FS`.
    pub(crate) flags: String,
}

impl<'n> Name<'n> {
    /// Takes a file name apart. Information that is not of the usual `2,` kind counts as no flags.
    pub(crate) fn parse(file_name: &'n str) -> Self {
        let (unique, information) = file_name.split_once(':').unwrap_or((file_name, ""));
        let mut flags: Vec<char> = information.strip_prefix("2,").unwrap_or_default().chars().collect();
        flags.sort_unstable();
        flags.dedup();
        Name {
            unique,
            flags: flags.into_iter().collect(),
        }
    }

    pub(crate) fn is_seen(&self) -> bool {
        self.flags.contains('S')
    }

    /// The file name with flags added and the other flags kept.
    pub(crate) fn with(&self, flags: &str) -> String {
        let mut flags: Vec<char> = self.flags.chars().chain(flags.chars()).collect();
        flags.sort_unstable();
        flags.dedup();
        format!("{}:2,{}", self.unique, flags.into_iter().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_marked() {
        let cases = [
            ("1700.M1P2.host", "1700.M1P2.host", false, "1700.M1P2.host:2,S"),
            ("1700.host:2,", "1700.host", false, "1700.host:2,S"),
            (
                "1700.host,S=12,W=13:2,RF",
                "1700.host,S=12,W=13",
                false,
                "1700.host,S=12,W=13:2,FRS",
            ),
            ("1700.host:2,FST", "1700.host", true, "1700.host:2,FST"),
            ("1700.host:2,aS", "1700.host", true, "1700.host:2,Sa"),
            ("1700.host:1,S", "1700.host", false, "1700.host:2,S"),
        ];
        for (file_name, unique, is_seen, marked) in cases {
            let name = Name::parse(file_name);
            assert_eq!(
                (name.unique, name.is_seen(), name.with("S").as_str()),
                (unique, is_seen, marked)
            );
            assert_eq!(Name::parse(marked).with("S"), marked, "marking twice changes nothing");
        }
    }
}
